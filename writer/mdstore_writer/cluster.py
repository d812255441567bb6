"""The Kubernetes API as lists and watches of plain JSON, over the official client's connection and credentials.

Its own deserialization is passed by: it costs more than everything else here, and refuses objects that fit no schema.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import urllib3
from kubernetes import client, config

from mdstore_writer.argo import WORKFLOW_LABEL, items, mapping, text

LIST_PAGE: Final = 500
LIST_TIMEOUT_S: Final = 60
WATCH_S: Final = 290
"""How long the server keeps a watch open. A bookmark comes shortly before its end."""
SILENCE_S: Final = 330
"""A watch that says nothing for so long, not even its end, is dead."""
CONNECT_S: Final = 10


class ClusterUnreachable(Exception):
    """No credentials, or nobody answers; the message says which and what to do."""


class Gone(Exception):
    """410: the server does not know what happened since that resourceVersion; only a new list helps."""


class Interrupted(Exception):
    """A list or a watch ended before its time; it may be tried again."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and where it is."""

    kind: str
    group: str
    plural: str
    selector: str = ""

    def path(self, namespace: str | None) -> str:
        """The collection of one namespace, or of all."""
        scope = "" if namespace is None else f"/namespaces/{namespace}"
        return f"{self.group}{scope}/{self.plural}"


ARGO: Final = "/apis/argoproj.io/v1alpha1"
RESOURCES: Final = (
    Resource("Workflow", ARGO, "workflows"),
    Resource("WorkflowTaskResult", ARGO, "workflowtaskresults"),
    Resource("Pod", "/api/v1", "pods", WORKFLOW_LABEL),
)


class Cluster:
    """One API server. Threads may share it."""

    def __init__(self, api: client.ApiClient) -> None:
        """`api` has address and credentials."""
        self._api = api

    def check(self) -> None:
        """Ask the server for its version.

        Raises:
            ClusterUnreachable: it does not answer.
        """
        try:
            self._get("/version", {}, read_s=CONNECT_S)
        except (Interrupted, Gone) as error:
            raise ClusterUnreachable(f"the cluster {self.address} does not answer: {error}") from None

    @property
    def address(self) -> str:
        """The server's URL."""
        return str(self._api.configuration.host)

    def list(self, resource: Resource, namespace: str | None) -> tuple[list[Mapping[str, Any]], str]:
        """All objects, and the resourceVersion to watch from.

        Raises:
            Interrupted: it could not be had.
            Gone: the server dropped it between two pages.
        """
        found: list[Mapping[str, Any]] = []
        query = {"limit": str(LIST_PAGE), "labelSelector": resource.selector}
        while True:
            page = self._get(resource.path(namespace), query, read_s=LIST_TIMEOUT_S)
            # Items of built-in lists do not say their kind.
            found.extend({**item, "kind": resource.kind} for item in items(page.get("items")))
            metadata = mapping(page.get("metadata"))
            more = text(metadata.get("continue"))
            if more is None:
                return found, text(metadata.get("resourceVersion")) or "0"
            query["continue"] = more

    def watch(self, resource: Resource, namespace: str | None, version: str) -> Iterator[Mapping[str, Any]]:
        """The events after `version`, bookmarks too, until the server ends the watch.

        Raises:
            Interrupted: it broke, or the server answered an error.
            Gone: the server does not know that version any more.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "labelSelector": resource.selector,
        }
        response = self._request(resource.path(namespace), query, read_s=SILENCE_S)
        try:
            for event in _lines(response):
                if event.get("type") == "ERROR":
                    status = mapping(event.get("object"))
                    if status.get("code") == 410:
                        raise Gone(str(status.get("message")))
                    raise Interrupted(f"the watch ended with {status.get('code')}: {status.get('message')}")
                yield event
        except (urllib3.exceptions.HTTPError, OSError, orjson.JSONDecodeError) as error:
            raise Interrupted(f"the watch broke: {error}") from error
        finally:
            response.close()
            response.release_conn()

    def _get(self, path: str, query: Mapping[str, str], *, read_s: float) -> Mapping[str, Any]:
        response = self._request(path, query, read_s=read_s)
        try:
            return mapping(orjson.loads(response.data))
        except (urllib3.exceptions.HTTPError, OSError, orjson.JSONDecodeError) as error:
            raise Interrupted(f"{path}: {error}") from error
        finally:
            response.release_conn()

    def _request(self, path: str, query: Mapping[str, str], *, read_s: float) -> urllib3.BaseHTTPResponse:
        request = self._api.param_serialize(
            "GET",
            path,
            query_params=[(name, value) for name, value in query.items() if value],
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        try:
            response: urllib3.BaseHTTPResponse = self._api.call_api(
                *request, _request_timeout=(CONNECT_S, read_s)
            ).response
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Interrupted(f"{path}: {_reason(error)}") from error
        if response.status == 200:
            return response
        try:
            message = mapping(orjson.loads(response.data)).get("message") or response.reason
        except (urllib3.exceptions.HTTPError, OSError, orjson.JSONDecodeError):
            message = response.reason
        finally:
            response.release_conn()
        raise (Gone if response.status == 410 else Interrupted)(f"{path}: {response.status} {message}")


def _reason(error: Exception) -> str:
    """What went wrong, without urllib3's repetition of where."""
    return " ".join(str(getattr(error, "reason", None) or error).split())


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[Mapping[str, Any]]:
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield mapping(orjson.loads(line))


def open_cluster() -> Cluster:
    """The cluster that the kubeconfig (KUBECONFIG, ~/.kube/config) or the pod's service account names.

    Raises:
        ClusterUnreachable: neither names one, or it does not answer.
    """
    configuration = client.Configuration()
    try:
        if "KUBECONFIG" in os.environ or Path("~/.kube/config").expanduser().exists():
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
    except (config.ConfigException, OSError) as error:
        raise ClusterUnreachable(
            f"no cluster to watch ({error}): name a kubeconfig in KUBECONFIG, or run in a pod with a service account"
        ) from None
    # The watcher tries again itself, and says so.
    configuration.retries = False
    cluster = Cluster(client.ApiClient(configuration))
    cluster.check()
    return cluster
