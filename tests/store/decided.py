"""Where answers may differ: each rule says which row of docs/compatibility.md it is, and is no wider than that.

Two stores that were told the same are no longer the same once one of them has taken what the other refused. `aside`
finds the requests with which that may happen: they are asked of copies, which are thrown away.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mdstore.store.properties import NULL_MARKER, STRUCT_PREFIX
from mdstore.wire import mlmd

READS: Final = "Get"
LARGEST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One difference that was decided."""

    row: str
    """How the row of the page begins."""
    holds: Callable[[str, Any, str, str], bool]
    """Whether RPC, request, the library's code and ours are of this kind."""


def aside(name: str, request: Any) -> bool:
    """Whether the library may write what ours refuses, or the other way round, or each another number."""
    if name.startswith(READS):
        return False
    return _poisoned(request) or _inexact(request) or _loose(request)


def known(name: str, request: Any, theirs: str, ours: str) -> bool:
    """Whether these codes, which differ, are a difference that was decided."""
    return any(rule.holds(name, request, theirs, ours) for rule in RULES)


def _poisoned(request: Any) -> bool:
    return any(_is_poison(text) for text in _texts(request)) or any(
        value.HasField("proto_value") and not value.proto_value.type_url for value in _values(request)
    )


def _is_poison(text: str | bytes) -> bool:
    # Protobuf gives bytes for a text that is not UTF-8.
    return isinstance(text, bytes) or "\0" in text or text == NULL_MARKER or text.startswith(STRUCT_PREFIX)


def _texts(message: Any) -> Iterator[str | bytes]:
    """All texts of a message, but for what is inside a Struct, which is bytes to both."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from value if field.is_repeated else (value,)
        elif field.message_type is None or field.message_type.full_name == "google.protobuf.Struct":
            continue
        elif field.message_type.GetOptions().map_entry:
            yield from (key for key in value if isinstance(key, (str, bytes)))
            if field.message_type.fields_by_name["value"].message_type is not None:
                for item in value.values():
                    yield from _texts(item)
        elif field.is_repeated:
            for item in value:
                yield from _texts(item)
        else:
            yield from _texts(value)


def _values(message: Any) -> Iterator[mlmd.Value]:
    """All property values of a message."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.full_name.startswith("google.protobuf."):
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is mlmd.Value.DESCRIPTOR:
                yield from value.values()
        elif field.is_repeated:
            for item in value:
                yield from _values(item)
        else:
            yield from _values(value)


def _doubles(request: Any) -> list[float]:
    return [value.double_value for value in _values(request) if value.HasField("double_value")]


def _inexact(request: Any) -> bool:
    """Whether there is a number that six decimals, of which 15 digits are read, do not hold."""
    return any(
        not math.isfinite(number) or float(f"{float(f'{number:f}'):.15g}") != number for number in _doubles(request)
    )


def _loose(request: Any) -> bool:
    """Whether a link of the request is to a node that it only names."""
    if "artifact_event_pairs" in request.DESCRIPTOR.fields_by_name:
        return any(not pair.HasField("artifact") for pair in request.artifact_event_pairs)
    if "event_edges" in request.DESCRIPTOR.fields_by_name:
        return any(
            not (edge.HasField("artifact_index") and edge.HasField("execution_index")) for edge in request.event_edges
        )
    return False


def _taken(name: str, _request: Any, theirs: str, ours: str) -> bool:
    return name.startswith("Put") and (theirs, ours) == ("INTERNAL", "ALREADY_EXISTS")


def _refused(name: str, request: Any, theirs: str, ours: str) -> bool:
    return ours == "INVALID_ARGUMENT" and _poisoned(request)


def cut_off(name: str, request: Any) -> bool:
    """Whether a read asks for a text that the library cuts off, and the rest of its question with it."""
    return name.startswith(READS) and any("\0" in text for text in _texts(request) if isinstance(text, str))


def _finds_less(name: str, request: Any, theirs: str, ours: str) -> bool:
    return cut_off(name, request) and ours in {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}


def _reused(name: str, request: Any, theirs: str, ours: str) -> bool:
    """The library takes it for a race for the context, though it is the external id that is taken, and will be."""
    reuses = name in {"PutExecution", "PutLineageSubgraph"} and request.options.reuse_context_if_already_exist
    return reuses and (theirs, ours) == ("ABORTED", "ALREADY_EXISTS")


def _exact(name: str, request: Any, theirs: str, ours: str) -> bool:
    if any(math.isnan(number) for number in _doubles(request)) and ours == "INVALID_ARGUMENT":
        return theirs == "INTERNAL"
    return any(math.isinf(number) for number in _doubles(request)) and (theirs, ours) == ("INTERNAL", "OK")


def _linked(name: str, request: Any, theirs: str, ours: str) -> bool:
    """The library goes on with such a link, and tells a later mistake if there is one."""
    goes_on = theirs in {"OK", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "INTERNAL"}
    return name in {"PutExecution", "PutLineageSubgraph"} and _loose(request) and goes_on and ours == "INVALID_ARGUMENT"


def _empty(name: str, request: Any, theirs: str, ours: str) -> bool:
    return name == "PutExecution" and ours == "INVALID_ARGUMENT" and _has_empty_pair(request)


def _has_empty_pair(request: Any) -> bool:
    return any(not (pair.HasField("artifact") or pair.HasField("event")) for pair in request.artifact_event_pairs)


def _several(name: str, request: Any, theirs: str, ours: str) -> bool:
    """The library meets what is taken when it writes, one row after the other; ours checks all and then writes."""
    return (
        name.startswith("Put")
        and theirs in {"ALREADY_EXISTS", "INTERNAL", "ABORTED"}
        and ours in {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}
        and (_rows(request) > 1 or _is_linked_type(request))
    )


def _rows(request: Any) -> int:
    """How many nodes, types and links a request brings."""
    lists = sum(len(value) for field, value in request.ListFields() if field.is_repeated)
    return lists + (1 if "execution" in request.DESCRIPTOR.fields_by_name and request.HasField("execution") else 0)


def _is_linked_type(request: Any) -> bool:
    """Whether the request has a type with an external id, which may be taken, and something else that may be wrong."""
    fields = [(field, value) for field, value in request.ListFields() if field.name.endswith(("_type", "_types"))]
    types = [type_ for field, value in fields for type_ in (value if field.is_repeated else (value,))]
    return any(
        type_.HasField("external_id") and (type_.HasField("base_type") or mlmd.UNKNOWN in type_.properties.values())
        for type_ in types
    )


def _any_size(name: str, request: Any, theirs: str, ours: str) -> bool:
    return name.startswith(READS) and (theirs, ours) == ("INVALID_ARGUMENT", "OK") and _size(request) == LARGEST


def _size(request: Any) -> int:
    return int(request.options.max_result_size) if "options" in request.DESCRIPTOR.fields_by_name else 0


RULES: Final = (
    Rule("What is taken is ALREADY_EXISTS", _taken),
    Rule("What is taken is ALREADY_EXISTS", _reused),
    Rule("What could not be read back is refused", _refused),
    Rule("What could not be read back is refused", _finds_less),
    Rule("Doubles are exact", _exact),
    Rule("Links are between nodes that exist", _linked),
    Rule("Links are between nodes that exist", _empty),
    Rule("Of several mistakes in a request one is said", _several),
    Rule("Any size is understood", _any_size),
)
