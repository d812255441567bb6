"""Answers a write that is sent again as it was answered the first time, without writing again.

Two ways to know that it is the same one. A client may give it an idempotency key. And a client that lost an answer and
says by the header `x-retry-attempt` that this is not its first try, is answered by what the very same request was told
not long ago. The answers are rows of `mdstore_request`, written in the transaction that they are about: so this holds
across restarts and for repeats at the same time, and a request whose transaction failed can be tried again.

What says "not my first try" cannot be told from a stranger's: two clients that both send the same request to the byte
within `RETRY_WINDOW_S`, where the second one's first try never arrived, would share one answer. To make this rarer, an
answer is given once for each number of tries. Clients that may send equal requests use keys.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import message_factory
from sqlalchemy import bindparam, delete, select

from mdstore.errors import InvalidArgument
from mdstore.store.properties import check_text
from mdstore.store.sql import Conflict, Insert, Statement
from mdstore.store.tables import REQUEST
from mdstore.store.transaction import Transaction
from mdstore.wire import POOL

RETRY_WINDOW_S: Final = 240.0
"""A request that says that it is a retry is compared with those of so long ago. KFP's client tries for 190 s."""
KEEP_S: Final = 24 * 3600.0
"""How long an answer is kept under a client's key, unless the store is told otherwise."""
KEY_CHARACTERS: Final = 255

_R = REQUEST.c
_FIND: Final = Statement(
    lambda: select(_R.digest, _R.attempt, _R.response).where(
        _R.key == bindparam("with_key"), _R.until_ms > bindparam("now_ms")
    )
)
_FORGET: Final = Statement(lambda: delete(REQUEST).where(_R.until_ms <= bindparam("now_ms")))


_PUT: Final = Insert(REQUEST, tuple(column.name for column in REQUEST.columns), Conflict.REPLACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a caller says of a write besides its request."""

    idempotency_key: str = ""
    attempt: int = 0
    """0 for the first try, 1 for the first retry and so on."""
    can_be_retried: bool = True
    """The caller may send it again without a key, when it does not hear the answer."""


def check_key(key: str) -> None:
    """Raise InvalidArgument when a text cannot be an idempotency key."""
    check_text("the idempotency key", key)
    if len(key) > KEY_CHARACTERS:
        raise InvalidArgument(f"the idempotency key has {len(key)} characters, more than {KEY_CHARACTERS}")


@dataclass(slots=True)
class _Remembered:
    digest: bytes
    attempt: int
    response: Any
    keep_s: float


class Answers:
    """The answers that one group of writes gives or needs. Threads: belongs to the writer's transaction."""

    def __init__(self, tx: Transaction, keep_s: float) -> None:
        """Look into the database of `tx`; keep what has a key for so many seconds."""
        self._tx = tx
        self._keep_s = keep_s
        self._new: dict[str, _Remembered] = {}

    def find(self, call: Call, request: Any) -> Any | None:
        """What this write was answered, maybe to a neighbour in the group; None when it must be done.

        Raises:
            InvalidArgument: the key was used for another request.
        """
        if call.idempotency_key:
            check_key(call.idempotency_key)
            name = f"key:{call.idempotency_key}"
            digest = digest_of(request)
            found = self._look_up(name, request, digest)
            if found is not None and found.digest != digest:
                raise InvalidArgument(
                    f"the idempotency key {call.idempotency_key!r} was used for another request: take a new one"
                )
            return None if found is None else found.response
        if call.attempt > 0:
            digest = digest_of(request)
            name = _retry_name(digest)
            found = self._look_up(name, request, digest)
            if found is not None and call.attempt > found.attempt:
                found.attempt = call.attempt
                self._new[name] = found
                return found.response
        return None

    def _look_up(self, name: str, request: Any, digest: bytes) -> _Remembered | None:
        found = self._new.get(name)
        if found is None:
            for stored, attempt, response in self._tx.rows(_FIND, with_key=name, now_ms=self._tx.now_ms()):
                # That of another kind of request may be no message of this kind.
                message = _response_class(request).FromString(bytes(response)) if bytes(stored) == digest else None
                found = _Remembered(bytes(stored), attempt, message, RETRY_WINDOW_S)
        return found

    def add(self, call: Call, request: Any, response: Any, *, changed: bool) -> None:
        """Remember an answer; of a write without a key only when it changed something."""
        if call.idempotency_key:
            self._new[f"key:{call.idempotency_key}"] = _Remembered(digest_of(request), 0, response, self._keep_s)
        elif changed and call.can_be_retried:
            digest = digest_of(request)
            self._new[_retry_name(digest)] = _Remembered(digest, call.attempt, response, RETRY_WINDOW_S)

    def write(self) -> None:
        """Write what was added; to be called once the responses are complete."""
        now = self._tx.now_ms()
        rows: Sequence[tuple[Any, ...]] = [
            (
                name,
                new.digest,
                new.attempt,
                new.response.SerializeToString(),
                now + int(new.keep_s * 1000),
            )
            for name, new in self._new.items()
        ]
        self._tx.later(_PUT, rows)


def digest_of(request: Any) -> bytes:
    """SHA-256 of a request and its kind. The order of maps on the wire, which clients make up anew, does not count."""
    digest = hashlib.sha256(request.DESCRIPTOR.full_name.encode())
    digest.update(b"\0")
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()


def _response_class(request: Any) -> Any:
    name = request.DESCRIPTOR.full_name.removesuffix("Request") + "Response"
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


def _retry_name(digest: bytes) -> str:
    return f"retry:{digest.hex()[:40]}"


def forget_old(tx: Transaction) -> None:
    """Drop the answers whose time is over."""
    tx.run(_FORGET, now_ms=tx.now_ms())
