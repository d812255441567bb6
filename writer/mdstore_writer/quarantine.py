"""What could not be understood, kept in the store where a person can list it: nothing is dropped in silence.

An entry's key follows from where the trouble is (a file's line, a node of a workflow), so that seeing it again does not
double it, and an entry goes when the same place has become readable.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import orjson

from mdstore.client.client import Client
from mdstore.wire import ingestion

COLLECTION: Final = "writer.quarantine"
RAW_CHARACTERS: Final = 16_384
"""So much of an unreadable line is kept."""
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that could not be recorded."""

    key: str
    """`line/FILE:LINE` for lines, `object/CLUSTER/NAMESPACE/UID/...` for what is in a workflow."""
    source: str
    """The file, or the watch, that it came from."""
    line: int | None
    """In the file, from 1."""
    subject: str
    reason: str
    raw: str
    """The line's text, cut to `RAW_CHARACTERS`; empty for what is in a workflow."""

    def content(self) -> bytes:
        """As the store keeps it."""
        return orjson.dumps({name: field for name, field in asdict(self).items() if name != "key"})

    @property
    def place(self) -> str:
        """FILE:LINE, or the source alone."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


def line_prefix(file: str) -> str:
    """What the keys of a file's lines begin with."""
    return f"line/{file}:"


def unreadable_line(file: str, line: int, reason: str, raw: bytes) -> Entry:
    """The entry for a line that means nothing."""
    return Entry(
        key=f"{line_prefix(file)}{line:09d}",
        source=file,
        line=line,
        subject="",
        reason=reason,
        raw=raw[:RAW_CHARACTERS].decode(errors="replace").rstrip("\n"),
    )


def entry_from_document(document: ingestion.Document) -> Entry:
    """The entry that a document holds."""
    content: Mapping[str, object] = orjson.loads(document.value)
    line = content.get("line")
    return Entry(
        key=document.key,
        source=str(content.get("source", "")),
        line=line if isinstance(line, int) else None,
        subject=str(content.get("subject", "")),
        reason=str(content.get("reason", "")),
        raw=str(content.get("raw", "")),
    )


def entries(client: Client, prefix: str = "") -> Iterator[Entry]:
    """All entries whose key begins with `prefix`, by key."""
    after = ""
    while True:
        page = client.list_documents(
            ingestion.ListDocumentsRequest(collection=COLLECTION, key_prefix=prefix, after_key=after, limit=_PAGE)
        ).documents
        for document in page:
            yield entry_from_document(document)
        if len(page) < _PAGE:
            return
        after = page[-1].key
