"""Property values between messages and the columns of MLMD's property tables."""

import base64
import binascii
import math
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError

from mdstore.errors import InvalidArgument
from mdstore.wire import mlmd

STRUCT_PREFIX: Final = "mlmd-struct::"
"""How the library marks a Struct in a text column."""
NULL_MARKER: Final = "__MLMD_NULL__"
"""How the library marks NULL in memory: a text like this makes it drop the value."""
INT64_MIN: Final = -(2**63)

PropertyRow = tuple[Any, ...]
"""owner, name, is_custom_property, int, double, string, proto, bool."""

KIND_OF_VALUE: Final = {
    "int_value": mlmd.INT,
    "double_value": mlmd.DOUBLE,
    "string_value": mlmd.STRING,
    "struct_value": mlmd.STRUCT,
    "proto_value": mlmd.PROTO,
    "bool_value": mlmd.BOOLEAN,
}


def check_text(what: str, text: str) -> str:
    """Return `text` if MLMD's readers can read it back, else raise InvalidArgument."""
    try:
        cut = "\0" in text
    except TypeError:
        # Protobuf gives bytes for a proto2 string that is none.
        raise InvalidArgument(f"{what} is not UTF-8: {text!r}") from None
    if cut:
        raise InvalidArgument(f"{what} holds a NUL character, where MLMD's readers would cut it off")
    if text == NULL_MARKER:
        raise InvalidArgument(f"{what} is {NULL_MARKER!r}, which MLMD's readers take for no value")
    return text


def property_row(owner: int, name: str, custom: bool, value: mlmd.Value) -> PropertyRow:
    """The row that stores one property of node `owner`.

    Raises:
        InvalidArgument: the value is not set, or is one that MLMD's readers could not read back.
    """
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            text = check_text(f"property {name!r}", value.string_value)
            if text.startswith(STRUCT_PREFIX):
                raise InvalidArgument(f"property {name!r} begins with {STRUCT_PREFIX!r}, which MLMD reads as a Struct")
            return (owner, name, custom, None, None, text, None, None)
        case "int_value":
            return (owner, name, custom, value.int_value, None, None, None, None)
        case "double_value":
            if math.isnan(value.double_value):
                raise InvalidArgument(f"property {name!r} is not a number (NaN), which the database cannot hold")
            return (owner, name, custom, None, value.double_value, None, None, None)
        case "struct_value":
            text = STRUCT_PREFIX + base64.b64encode(value.struct_value.SerializeToString()).decode("ascii")
            return (owner, name, custom, None, None, text, None, None)
        case "proto_value":
            if not value.proto_value.type_url:
                raise InvalidArgument(f"property {name!r} is a message without type_url, which cannot be read back")
            return (owner, name, custom, None, None, None, value.proto_value.SerializeToString(), None)
        case "bool_value":
            return (owner, name, custom, None, None, None, None, value.bool_value)
        case _:
            raise InvalidArgument(f"property {name!r} has no value")


def rows_of(owner: int, node: Any) -> list[PropertyRow]:
    """The rows of all properties of a node."""
    rows = [property_row(owner, name, False, value) for name, value in node.properties.items()]
    rows += [property_row(owner, name, True, value) for name, value in node.custom_properties.items()]
    return rows


def fill(
    node: Any,
    name: str,
    custom: bool,
    int_value: int | None,
    double_value: float | None,
    string_value: str | None,
    proto_value: str | bytes | None,
    bool_value: bool | None,
) -> None:
    """Put a row of the property table into its node."""
    value = (node.custom_properties if custom else node.properties)[name]
    if string_value is not None:
        if string_value.startswith(STRUCT_PREFIX):
            try:
                data = base64.b64decode(string_value[len(STRUCT_PREFIX) :], validate=True)
                value.struct_value.ParseFromString(data)
                value.struct_value.SetInParent()
            except (binascii.Error, DecodeError, ValueError):
                # Not written by a library that knows the prefix: a text that happens to begin so.
                value.string_value = string_value
        else:
            value.string_value = string_value
    elif int_value is not None:
        value.int_value = int(int_value)
    elif double_value is not None:
        value.double_value = double_value
    elif bool_value is not None:
        value.bool_value = bool(bool_value)
    elif proto_value is not None:
        try:
            value.proto_value.ParseFromString(_message(proto_value))
        except (binascii.Error, DecodeError, ValueError):
            value.proto_value.value = proto_value.encode() if isinstance(proto_value, str) else proto_value


def _message(stored: str | bytes) -> bytes:
    """The bytes of a stored message: base64 except on PostgreSQL, and no base64 begins as a message's field does."""
    if isinstance(stored, bytes) and stored[:1] in {b"\x0a", b"\x12"}:
        return stored
    return base64.b64decode(stored, validate=True)


def kind_name(number: int) -> str:
    """A `PropertyType` as its enum names it."""
    return mlmd.PropertyType.DESCRIPTOR.values_by_number[number].name


def check_declared(
    type_name: str, declared: dict[str, int], properties: Any, names: Iterable[str] | None = None
) -> None:
    """Raise InvalidArgument unless each property (or each of `names` that is there) fits the type's declaration."""
    for name in properties if names is None else names:
        if name not in properties:
            continue
        if name not in declared:
            raise InvalidArgument(f"type {type_name!r} declares no property {name!r}")
        kind = properties[name].WhichOneof("value")
        if kind is None:
            raise InvalidArgument(f"Found unmatched property type: {name} has no value")
        if KIND_OF_VALUE[kind] != declared[name]:
            raise InvalidArgument(
                f"Found unmatched property type: {name} of type {type_name!r} is declared {kind_name(declared[name])}, "
                f"not {kind_name(KIND_OF_VALUE[kind])}"
            )
