"""Where an artifact is: one URI from what Argo says of it and of the repository that it is kept in.

Argo mostly writes the key only; bucket, container or endpoint are those of `status.artifactRepositoryRef`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from mdstore_writer.argo import mapping, text

RAW_CHARACTERS: Final = 1024


def uri(source: Mapping[str, Any], repository: Mapping[str, Any]) -> str | None:
    """The location of an artifact.

    Args:
        source: the artifact as Argo writes it, with one of the fields s3, gcs, ...
        repository: `status.artifactRepositoryRef.artifactRepository` of its workflow.

    Returns:
        `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `azure://CONTAINER/BLOB`, `oss://BUCKET/KEY`, `hdfs://HOST/PATH`,
        `artifactory` and `http` as their URL, `git+REPO@REVISION`, `data:,TEXT` for raw ones (`urn:sha256:HEX` for
        long ones), `plugin://NAME/KEY`; None when it names no place.
    """
    for scheme, field in (("s3", "s3"), ("gs", "gcs"), ("oss", "oss")):
        if field in source:
            return _bucket(scheme, mapping(source[field]), mapping(repository.get(field)))
    if "azure" in source:
        given, default = mapping(source["azure"]), mapping(repository.get("azure"))
        container, blob = text(given.get("container")) or text(default.get("container")), text(given.get("blob"))
        return f"azure://{container}/{blob}" if container and blob else None
    if "hdfs" in source:
        given, default = mapping(source["hdfs"]), mapping(repository.get("hdfs"))
        addresses = given.get("addresses") or default.get("addresses")
        path = text(given.get("path"))
        host = addresses[0] if isinstance(addresses, list) and addresses else ""
        return f"hdfs://{host}/{path.lstrip('/')}" if path else None
    if "git" in source:
        given = mapping(source["git"])
        repo, revision = text(given.get("repo")), text(given.get("revision")) or text(given.get("branch"))
        return None if repo is None else f"git+{repo}" + (f"@{revision}" if revision else "")
    if "raw" in source:
        data = mapping(source["raw"]).get("data")
        return _data(data) if isinstance(data, str) else None
    if "plugin" in source:
        given = mapping(source["plugin"])
        name, key = text(given.get("name")), text(given.get("key"))
        return f"plugin://{name}/{key}" if name and key else None
    for field in ("http", "artifactory"):
        if field in source:
            return text(mapping(source[field]).get("url"))
    return None


def _data(value: str) -> str:
    """A `data:` URI of short text; of a long one, which the URI column of MySQL would not hold, its digest."""
    quoted = f"data:,{quote(value)}"
    return quoted if len(quoted) <= RAW_CHARACTERS else f"urn:sha256:{hashlib.sha256(value.encode()).hexdigest()}"


def _bucket(scheme: str, given: Mapping[str, Any], default: Mapping[str, Any]) -> str | None:
    bucket, key = text(given.get("bucket")) or text(default.get("bucket")), text(given.get("key"))
    return f"{scheme}://{bucket}/{key.lstrip('/')}" if bucket and key else None
