"""The change log as a test looks at it: is the chain whole, and what does folding it give?"""

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any

from mdstore.client.client import Client
from mdstore.client.retry import NEVER
from mdstore.store import verification
from mdstore.store.local import LocalClient
from mdstore.store.store import Store, reading
from mdstore.wire import changes

NODES = ("artifact_types", "execution_types", "context_types", "artifacts", "executions", "contexts")
LINKS = ("events", "attributions", "associations", "parent_contexts")


def verify(url: str) -> int:
    """Check positions and hashes of the whole log from its rows; returns the newest position."""
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        rows = database.execute("SELECT seq, time_ms, origin, actor, hash, payload FROM mdstore_commit ORDER BY seq")
        digest, newest = hashlib.sha256(b"").digest(), 0
        for seq, time_ms, origin, actor, found, payload in rows:
            assert seq == newest + 1, f"a gap before {seq}"
            chain = hashlib.sha256(digest)
            for part in (
                seq.to_bytes(8, "big"),
                time_ms.to_bytes(8, "big", signed=True),
                origin.encode(),
                actor.encode(),
                payload,
            ):
                chain.update(len(part).to_bytes(8, "big") + part)
            newest, digest = seq, chain.digest()
            assert found == digest, f"commit {seq} is not what its hash says"
        assert database.execute("SELECT seq, hash FROM mdstore_head").fetchall() == [(newest, digest)]
        touched = set(database.execute("SELECT kind, id, seq FROM mdstore_change WHERE kind <= 2"))
        assert touched == {
            (kind, node.id, seq)
            for seq, payload in database.execute("SELECT seq, payload FROM mdstore_commit")
            for kind, field in ((0, "executions"), (1, "artifacts"), (2, "contexts"))
            for node in (
                *getattr(changes.Changes.FromString(payload), field),
                *getattr(changes.Changes.FromString(payload), f"deleted_{field}"),
            )
        }
        return newest
    finally:
        database.close()


def fold(entries: Iterable[changes.Changes]) -> dict[str, Any]:
    """What the entries add up to: nodes by id as their last image, links as what was added."""
    found: dict[str, Any] = {field: {} for field in NODES} | {field: [] for field in LINKS}
    for entry in entries:
        for field in NODES:
            for image in getattr(entry, field):
                found[field][image.id] = image
        for field in LINKS:
            found[field] += getattr(entry, field)
        _take_away(found, entry)
    for field in LINKS:
        found[field].sort(key=lambda link: link.SerializeToString(deterministic=True))
    return found


def _take_away(found: dict[str, Any], entry: changes.Changes) -> None:
    """What is deleted comes after everything else of its commit, and takes its links along."""
    for field, owner in (("artifacts", "artifact_id"), ("executions", "execution_id"), ("contexts", "context_id")):
        gone = {deletion.id for deletion in getattr(entry, f"deleted_{field}")}
        if not gone:
            continue
        for node_id in gone:
            found[field].pop(node_id, None)
        for links in LINKS:
            ends = ("child_id", "parent_id") if links == "parent_contexts" and field == "contexts" else (owner,)
            found[links] = [link for link in found[links] if not any(getattr(link, end, None) in gone for end in ends)]


def followed(client: Client, from_seq: int = 1) -> list[changes.Commit]:
    """The commits that there are."""
    return [commit for page in client.follow(from_seq, once=True) for commit in page.commits]


def of_log(client: Client) -> dict[str, Any]:
    """What the whole log adds up to."""
    return fold(commit.changes for commit in followed(client))


def of_tables(client: Client) -> dict[str, Any]:
    """What a snapshot shows."""
    return fold(page.changes for page in client.snapshot())


def verified(url: str) -> dict[str, Any]:
    """What the tables hold; the log has every position once and every right hash, and adds up to the same."""
    with Store.open(url) as store:
        with reading(store.database) as tx:
            found = verification.verify(tx)
        assert not found.breaks
        assert found.commits == found.head_seq - found.first_seq + 1
        with LocalClient(store, NEVER) as client:
            tables = of_tables(client)
            assert of_log(client) == tables
    return tables
