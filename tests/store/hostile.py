"""Requests changed in places that chance picks: whatever a message can hold is put into any field of it.

A value is drawn for each field by its type: texts of every plane and of any length, NUL, what is no UTF-8, numbers at
the edges and past them, NaN and infinity, enum numbers that do not exist, oneofs without a member, deep Structs, fields
that no definition knows, elements that are doubled, swapped or empty.
"""

import random
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

TEXTS: Final = (
    *("", " ", "a", "A", "T", "a ", "\t\r\n", "ä", "漢", "🦆", "\u202e", "\ufffe", "\x01\x7f", "e\u0301", "ß", "İ"),
    "".join(chr(plane * 0x10000 + 0x61) for plane in range(17)),
    *("'", '"', "\\", "`", "%", "_", "$1", "?", ":x", "--", "'; DROP TABLE Artifact; --", "\\'", "\\0", "a\\"),
    *("e1", "t1", "mlmd.Model", "properties", "c.x", "null", "NULL", "id = 1", "/", "../x", "mlmd-struct:", "a,b"),
    *("x" * 300, "漢" * 5000, "y" * 120_000),
)
"""Texts that a store has to keep as they are."""
POISON: Final = ("\0", "a\0b", "__MLMD_NULL__", "mlmd-struct::", "mlmd-struct::x", "mlmd-struct::AAAA")
"""Texts that the library takes, and cannot read back."""
NO_TEXTS: Final = (b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80")
"""Bytes that are not UTF-8, surrogates and overlong forms among them."""
INTEGERS: Final = (0, 1, -1, 2, 7, 10, 100, 101, 2**31 - 1, -(2**31))
LONG_INTEGERS: Final = (*INTEGERS, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 4_102_444_800_000)
DOUBLES: Final = (0.0, -0.0, 0.5, -1.25, 3.0, 123456.75, 2.0**40, 1e300, -1e300)
INEXACT: Final = (1e-7, 0.1 + 0.2, 2.0**60, 5e-324, float("nan"), float("inf"), float("-inf"))
"""Of which the library keeps six decimals, or 15 digits, or nothing."""
MOST_DEPTH: Final = 20

_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: INTEGERS,
    FieldDescriptor.CPPTYPE_INT64: LONG_INTEGERS,
}
_POISONED: Final = 0.04
"""How many of the values are of those that the library cannot read back."""


class Hostility:
    """Changes messages."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def change(self, message: Any) -> Any:
        """A copy of the message with one to three places changed."""
        found = type(message)()
        found.CopyFrom(message)
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            self._change(self._chance.choice(list(_messages(found))))
        for part in _messages(found):
            _complete(part)
        return found

    def _often(self, share: float) -> bool:
        return self._chance.random() < share

    def _text(self) -> str:
        return self._chance.choice(POISON if self._often(_POISONED) else TEXTS)

    def _double(self) -> float:
        return self._chance.choice(INEXACT if self._often(_POISONED) else DOUBLES)

    def _change(self, message: Any) -> None:
        if self._often(0.05):
            # Fields that no definition knows: a number, a text, a group of eight bytes.
            message.MergeFromString(
                self._chance.choice((b"\xf8\xff\x03\x01", b"\xfa\xff\x03\x02ab", b"\xf9\xff\x03" + b"x" * 8))
            )
            return
        fields = list(message.DESCRIPTOR.fields)
        if not fields:
            return
        field = self._chance.choice(fields)
        if _is_map(field):
            self._change_map(getattr(message, field.name), field)
        elif field.is_repeated:
            self._change_list(getattr(message, field.name), field)
        elif self._often(0.2):
            message.ClearField(field.name)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            self._fill(getattr(message, field.name))
        elif field.enum_type is not None:
            if self._often(0.4):
                message.ClearField(field.name)
                message.MergeFromString(
                    _tag(field.number, 0) + self._chance.choice((b"\x63", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
                )
            else:
                setattr(message, field.name, self._chance.choice(field.enum_type.values).number)
        elif (
            field.type == FieldDescriptor.TYPE_STRING
            and message.DESCRIPTOR.full_name.startswith("ml_metadata.")
            and self._often(_POISONED)
        ):
            data = self._chance.choice(NO_TEXTS)
            message.MergeFromString(_tag(field.number, 2) + bytes([len(data)]) + data)
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: Any) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return self._chance.choice((b"", b"\0", bytes(range(256))))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text()
            case FieldDescriptor.CPPTYPE_DOUBLE:
                return self._double()
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._often(0.5)
            case FieldDescriptor.CPPTYPE_ENUM:
                return self._chance.choice(field.enum_type.values).number
        return self._chance.choice(_INTEGERS[field.cpp_type])

    def _change_list(self, listed: Any, field: Any) -> None:
        match self._chance.randrange(4):
            case 0 if len(listed):
                del listed[self._chance.randrange(len(listed))]
            case 1 if len(listed):
                listed.append(listed[self._chance.randrange(len(listed))])
            case 2 if len(listed) > 1:
                # The first becomes the last.
                first = listed[0]
                listed.append(first)
                del listed[0]
            case _:
                if field.message_type is None:
                    listed.append(self._scalar(field))
                else:
                    self._fill(listed.add())

    def _change_map(self, there: Any, field: Any) -> None:
        key_field, value_field = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        names = sorted(there)
        if names and self._often(0.3):
            del there[self._chance.choice(names)]
            return
        if key_field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
            return
        # A custom property is not called like a declared one: in the library those two clobber each other.
        key = ("c." if field.name == "custom_properties" else "") + self._text()
        if names and self._often(0.5):
            key = self._chance.choice(names)
        if value_field.message_type is None:
            there[key] = self._scalar(value_field)
        else:
            there[key].SetInParent()
            self._fill(there[key])

    def _fill(self, message: Any) -> None:
        match message.DESCRIPTOR.full_name:
            case "ml_metadata.Value":
                self._fill_value(message)
            case "google.protobuf.Any":
                message.type_url = self._text() if self._often(0.7) else "x/y"
                message.value = self._chance.choice((b"", b"\0\xff", b"\x0a\x01a"))
            case _:
                if self._often(0.7):
                    self._change(message)

    def _fill_value(self, value: Any) -> None:
        match self._chance.randrange(7):
            case 0:
                value.int_value = self._chance.choice(LONG_INTEGERS)
            case 1:
                value.double_value = self._double()
            case 2:
                value.string_value = self._text()
            case 3:
                self._fill_struct(value)
            case 4:
                value.proto_value.type_url = self._chance.choice(
                    ("x/y", "type.googleapis.com/x", "漢", "x/y", "x/y", "")
                )
                value.proto_value.value = bytes(range(256))
            case 5:
                value.bool_value = self._often(0.5)
            case _:
                value.Clear()

    def _fill_struct(self, value: Any) -> None:
        value.struct_value.SetInParent()
        inner = value.struct_value
        for depth in range(self._chance.choice((0, 1, 3, MOST_DEPTH))):
            inner = inner.fields[self._chance.choice(("", "a", "漢", "k" * depth))].struct_value
            inner.SetInParent()
        for content in (1e300, None, True, "x" * 3000, [[], {}, [1, [None]]], "\ufffe"):
            if self._often(0.3):
                inner.update({self._chance.choice(("", "a", "🦆")): content})


def _messages(message: Any) -> Iterator[Any]:
    """The message and all in it, but for what is inside of values."""
    yield message
    if message.DESCRIPTOR.full_name in {"ml_metadata.Value", "google.protobuf.Any", "google.protobuf.FieldMask"}:
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(field):
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from _messages(value[key])
        elif field.is_repeated:
            for item in value:
                yield from _messages(item)
        else:
            yield from _messages(value)


def _complete(message: Any) -> None:
    """Custom properties without a value end the library's process, so here they get one."""
    if "custom_properties" in message.DESCRIPTOR.fields_by_name:
        for value in message.custom_properties.values():
            if value.WhichOneof("value") is None:
                value.int_value = 0


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _tag(number: int, wire_type: int) -> bytes:
    tag = number << 3 | wire_type
    return bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
