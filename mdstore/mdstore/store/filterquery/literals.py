"""Strings, numbers and backquoted names as they are written, turned into what they mean."""

import math
import re
from typing import Final

from mdstore.store.filterquery.syntax import fault

MOST_UINT64: Final = 2**64 - 1

_SIMPLE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}
_CODED: Final = re.compile(r"[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")


def string(text: str, at: int) -> str:
    """The value of a string with its quotes, `r'..'` and `'''..'''` too."""
    raw = text[0] in "rR"
    if raw:
        text = text[1:]
    width = 3 if len(text) >= 6 and text[:3] in ("'''", '"""') else 1
    # As in every file: a line's end in a text is \n.
    body = text[width:-width].replace("\r\n", "\n").replace("\r", "\n")
    found = body if raw else _unescaped(body, at)
    if "\0" in found:
        fault("the string holds a NUL character, which no text in the store does", at)
    return found


def name(text: str, at: int) -> tuple[str, bool]:
    """One part of a column's name, and whether it stood in backquotes."""
    return (_unescaped(text[1:-1], at), True) if text.startswith("`") else (text, False)


def _unescaped(body: str, at: int) -> str:
    if "\\" not in body:
        return body
    found: list[str] = []
    place = 0
    while (slash := body.find("\\", place)) >= 0:
        found.append(body[place:slash])
        letter = body[slash + 1 : slash + 2]
        if letter in _SIMPLE:
            found.append(_SIMPLE[letter])
            place = slash + 2
            continue
        coded = _CODED.match(body, slash + 1)
        if coded is None:
            escape = body[slash : slash + 2]
            fault(f"illegal escape sequence {escape} in a string", at, f"write \\{escape}, or r'..'")
        code = int(coded[4], 8) if coded[4] else int(coded[1] or coded[2] or coded[3], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF or (coded[4] and code > 0o377):
            fault(f"the escape sequence \\{coded[0]} is no character", at)
        found.append(chr(code))
        place = coded.end()
    found.append(body[place:])
    return "".join(found)


def integer(text: str, at: int) -> int:
    """The value of a decimal or `0x` number."""
    if len(text) > 64:
        fault("the integer is too long", at)
    value = int(text, 16) if text[:2] in ("0x", "0X") else int(text)
    if value > MOST_UINT64:
        fault(f"{text} is beyond 64 bits", at)
    return value


def double(text: str, at: int) -> float:
    """The value of a number with a point or an exponent."""
    value = float(text)
    if math.isinf(value):
        fault(f"{text} is beyond what a double holds", at)
    return value
