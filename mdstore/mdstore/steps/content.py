"""Where local files are, as URIs, and what is in them, as digests."""

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_CHUNK: Final = 1024 * 1024
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UNHOLDABLE: Final = re.compile(r"[\0\ud800-\udfff]")


class TooLong(Exception):
    """The time for reading was over."""


def uri_of(given: str | os.PathLike[str]) -> str:
    """A location as a URI: one that has a scheme stays, a path becomes absolute and `file://`.

    What no database holds, such as bytes of a file's name that are no text, is written in percents.
    """
    text = os.fspath(given)
    # A letter and a colon are a drive of Windows', not a scheme.
    if (match := _SCHEME.match(text)) and match.end() > 2:
        return _UNHOLDABLE.sub(_in_percents, text)
    return Path(os.path.abspath(text)).as_uri()


def _in_percents(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Bytes of names come as surrogates from U+DC80 on. What others were nobody knows.
    return f"%{code & 0xFF:02X}" if code == 0 or 0xDC80 <= code <= 0xDCFF else "%EF%BF%BD"


def local_path(uri: str) -> Path | None:
    """The path of a `file://` URI of this machine."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        return None
    return Path(unquote(parts.path))


def digest_of(path: Path, *, seconds: float) -> str | None:
    """`sha256:<hex>` of a file, `sha256-tree:<hex>` of a folder; None when there is nothing.

    A folder's is the SHA-256 over one line `<hex>  <path>` for each file in it, sorted by path (as `sha256sum` prints).

    Raises:
        TooLong: reading took longer than `seconds`.
        OSError: it cannot be read.
    """
    deadline = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > deadline:
            raise TooLong(f"reading {path} took longer than {seconds} s")

    if path.is_file():
        return f"sha256:{_sha256(path, check)}"
    if not path.is_dir():
        return None
    files = []
    for folder, _, names in os.walk(path):
        check()
        files += [Path(folder, name) for name in names]
    lines = hashlib.sha256()
    for file in sorted(files, key=lambda found: found.relative_to(path).as_posix()):
        if file.is_file():
            lines.update(os.fsencode(f"{_sha256(file, check)}  {file.relative_to(path).as_posix()}\n"))
    return f"sha256-tree:{lines.hexdigest()}"


def _sha256(path: Path, check: Callable[[], None]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            check()
    return found.hexdigest()
