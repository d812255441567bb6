"""Idempotency keys: a write that is sent twice under one key is done once and answered the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from mdstore.errors import InvalidArgument

HEADER: Final = "idempotency-key"
KEY_CHARACTERS: Final = 255
_KEY: Final[ContextVar[str]] = ContextVar("mdstore_idempotency_key", default="")


@contextmanager
def idempotency_key(key: str) -> Iterator[None]:
    """Give the write inside the block a key, of any client in this thread or task; one write a key.

    Example:
        with idempotency_key("import-2024-11-18"):
            client.put_execution(request)

    Args:
        key: chosen by the caller: up to 255 printable characters of ASCII without blanks around them, "" for none. The
            store keeps the answer for a day or as it is set up; until then another request under the same key raises
            `InvalidArgument`.

    Raises:
        InvalidArgument: `key` is none.
    """
    # Over gRPC it is a header, which carries nothing else. What works in process must work there too.
    if len(key) > KEY_CHARACTERS:
        raise InvalidArgument(f"the idempotency key has {len(key)} characters, more than {KEY_CHARACTERS}")
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        raise InvalidArgument(
            f"the idempotency key {key!r} is not printable ASCII without blanks around it: take a digest of it"
        )
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


def current_key() -> str:
    """The key of the block that this is called in; "" outside of any."""
    return _KEY.get()


def metadata() -> tuple[tuple[str, str], ...]:
    """The key as gRPC metadata."""
    key = _KEY.get()
    return ((HEADER, key),) if key else ()
