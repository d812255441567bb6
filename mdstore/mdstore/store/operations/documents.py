"""Documents: what observers keep in the store beside what they recorded."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, select

from mdstore.errors import InvalidArgument
from mdstore.store.properties import check_text
from mdstore.store.sql import Conflict, Delete, Insert, Statement
from mdstore.store.tables import DOCUMENT, as_text
from mdstore.store.transaction import Transaction
from mdstore.wire import ingestion

DEFAULT_LIMIT: Final = 1000
KEY_CHARACTERS: Final = 500

_D = DOCUMENT.c


_UPSERT: Final = Insert(DOCUMENT, ("collection", "key", "value", "time_ms"), Conflict.REPLACE)
_DELETE: Final = Delete(DOCUMENT, ("collection", "key"))
_LIST: Final = Statement(
    lambda: (
        select(_D.collection, _D.key, _D.value, _D.time_ms)
        .where(
            _D.collection == bindparam("in_collection"),
            _D.key > bindparam("after"),
            _D.key >= bindparam("prefix"),
            _D.key < bindparam("behind_prefix"),
        )
        .order_by(_D.key)
        .limit(bindparam("most"))
    )
)


def put_documents(tx: Transaction, documents: Sequence[ingestion.Document]) -> None:
    """Write or take away documents; the last one of a key counts."""
    rows: dict[tuple[str, str], tuple[str, str, bytes, int]] = {}
    gone: dict[tuple[str, str], tuple[str, str]] = {}
    for document in documents:
        if not document.collection or not document.key:
            raise InvalidArgument("a document needs a collection and a key")
        check_text("a document's key", document.key)
        if len(document.key) > KEY_CHARACTERS:
            raise InvalidArgument(f"a document's key has {len(document.key)} characters, more than {KEY_CHARACTERS}")
        key = (document.collection, document.key)
        rows.pop(key, None)
        gone.pop(key, None)
        if document.deleted:
            gone[key] = key
        else:
            rows[key] = (*key, document.value, tx.now_ms())
    tx.many(_UPSERT, list(rows.values()))
    tx.many(_DELETE, list(gone.values()))


def list_documents(tx: Transaction, request: ingestion.ListDocumentsRequest) -> ingestion.ListDocumentsResponse:
    """`ListDocuments`."""
    rows = tx.rows(
        _LIST,
        in_collection=request.collection,
        after=request.after_key,
        prefix=request.key_prefix,
        # The last code point, as often as a key may have it: nothing that begins with the prefix sorts behind it.
        behind_prefix=request.key_prefix + "\U0010ffff" * (KEY_CHARACTERS + 1),
        most=request.limit if request.limit > 0 else DEFAULT_LIMIT,
    )
    response = ingestion.ListDocumentsResponse()
    for collection, key, value, time_ms in rows:
        response.documents.add(collection=as_text(collection), key=as_text(key), value=value, time_ms=time_ms)
    return response
