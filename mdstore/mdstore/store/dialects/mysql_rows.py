"""Reads the rows that MySQL sends in half the time that PyMySQL takes.

PyMySQL makes an object of every row and every column's description, and calls four functions for each value: most of
the time of a read of a hundred nodes. Here a row is cut up in one loop, and descriptions, which are the same whenever a
statement is run again, are remembered by their bytes. All else of a connection is the driver's.

What is used of the driver has no promise behind it, so its version is bounded in `pyproject.toml`.
"""

import io
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pymysql import connections, err
from pymysql.connections import TEXT_TYPES
from pymysql.constants import CR, FIELD_TYPE
from pymysql.converters import decoders
from pymysql.protocol import EOFPacketWrapper, FieldDescriptorPacket, MysqlPacket

if TYPE_CHECKING:
    _Driver = connections.Connection[Any]
else:
    # It is generic in its stub only.
    _Driver = connections.Connection

Convert = Callable[[bytes], Any]
Wait = Callable[[int, int], int]
"""From a file descriptor and what is wanted of it (1: to read) to what it is ready for."""

READ_BYTES: Final = 64 * 1024
_REMEMBERED: Final = 2000
"""Descriptions of columns. Filters have columns of their own, so there is no end to them."""
_MORE_FOLLOWS: Final = 0xFFFFFF
"""The size of a packet that another one continues."""
_NULL: Final = 251
_WIDTHS: Final = {252: 2, 253: 3, 254: 8}
"""First byte of a value -> how many bytes behind it are its length; what is below NULL is the length itself."""
_END, _ERROR = 254, 255
_BINARY: Final = 63
"""The character set of what is no text."""


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# `int` and `float` read bytes as they read texts.
_CONVERTERS: Final[dict[int, Convert]] = {
    **dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG), int),
    **dict.fromkeys((FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE), float),
}
_descriptions: dict[bytes, tuple[Any, tuple[Any, ...], Convert]] = {}
"""Bytes -> the driver's description, the one for users, and what makes a value of a column's bytes."""


class Connection(_Driver):
    """A connection of the driver's.

    Texts are UTF-8 whatever the server was told; what is not has U+FFFD in its place.
    """

    most_rows: int = sys.maxsize
    """An answer with more rows is not read, and the connection is lost."""

    def wait_by(self, wait: Wait, most_rows: int) -> bool:
        """Wait for the server by a function, unless there is TLS between.

        To send is not waited for: a question should be smaller than what the system keeps for a socket.
        """
        driver: Any = self
        if driver._secure:
            return False
        driver._rfile.close()
        driver._rfile = io.BufferedReader(_Waiting(driver._sock, wait), READ_BYTES)
        self.most_rows = most_rows
        return True

    def _read_query_result(self, unbuffered: bool = False) -> int | None:
        assert not unbuffered, "rows are read all at once"
        self._result: Any = None
        result = _Result(self)
        result.read()
        self._result = result
        if result.server_status is not None:
            self.server_status = result.server_status
        return result.affected_rows


class _Waiting(io.RawIOBase):
    """What a socket receives."""

    def __init__(self, receiving: socket.socket, wait: Wait) -> None:
        self._socket, self._wait = receiving, wait

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return self._socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(self._socket.fileno(), 1)


class _Result(connections.MySQLResult):
    fields: list[Any]
    converters: list[Convert]

    def _get_descriptions(self) -> None:
        connection: Any = self.connection
        packets = _packets(connection)
        found = [_described(next(packets), connection.encoding) for _ in range(self.field_count)]
        self._read_end(next(packets))
        self.fields = [field for field, _, _ in found]
        self.description = tuple(description for _, description, _ in found)
        self.converters = [convert for _, _, convert in found]

    def _read_rowdata_packet(self) -> None:
        rows: list[tuple[Any, ...]] = []
        connection: Any = self.connection
        converters, most = self.converters, connection.most_rows
        lenient = [_lenient if convert is bytes.decode else convert for convert in converters]
        for data in _packets(connection):
            if data[0] == _END and len(data) < 9:
                self._read_end(data)
                break
            if len(rows) == most:
                connection._force_close()
                raise err.OperationalError(CR.CR_SERVER_LOST, f"more than {most} rows are not read here")
            try:
                rows.append(_row(data, converters))
            except UnicodeDecodeError:
                rows.append(_row(data, lenient))
        self.connection = None
        self.affected_rows = len(rows)
        self.rows = tuple(rows)

    def _read_end(self, data: bytes) -> None:
        end = EOFPacketWrapper(MysqlPacket(data, "ascii"))
        self.warning_count, self.has_next = end.warning_count, end.has_next


def _row(data: bytes, converters: Sequence[Convert]) -> tuple[Any, ...]:
    row: list[Any] = []
    at = 0
    for convert in converters:
        size = data[at]
        at += 1
        if size == _NULL:
            row.append(None)
            continue
        if size > _NULL:
            begins = at + _WIDTHS[size]
            size = int.from_bytes(data[at:begins], "little")
            at = begins
        end = at + size
        row.append(convert(data[at:end]))
        at = end
    return tuple(row)


def _packets(connection: Any) -> Iterator[bytes]:
    """The packets that come next, as long as they are asked for.

    Raises:
        pymysql.err.Error: instead of one that says what failed; or the connection is lost, and closed.
    """
    read = connection._rfile.read
    begun = b""
    while True:
        try:
            header = read(4)
            size = int.from_bytes(header[:3], "little")
            if len(header) < 4 or header[3] != connection._next_seq_id:
                raise OSError("the server's packets end")
            connection._next_seq_id = (header[3] + 1) & 255
            data = read(size)
            if len(data) < size:
                raise OSError("the server's packets end")
        except BaseException as error:
            # Nobody could tell what comes next on it.
            connection._force_close()
            if isinstance(error, OSError):
                raise err.OperationalError(
                    CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({error})"
                ) from error
            raise
        if begun:
            data = begun + data
        if size == _MORE_FOLLOWS:
            begun = data
            continue
        begun = b""
        # Only now: what goes on with a value may begin with any byte.
        if data[:1] == b"\xff":
            MysqlPacket(data, connection.encoding).raise_for_error()
        yield data


def _described(data: bytes, encoding: str) -> tuple[Any, tuple[Any, ...], Convert]:
    found = _descriptions.get(data)
    if found is None:
        field: Any = FieldDescriptorPacket(data, encoding)
        found = (field, field.description(), _converter(field))
        if len(_descriptions) >= _REMEMBERED:
            _descriptions.clear()
        _descriptions[data] = found
    return found


def _converter(field: Any) -> Convert:
    number = field.type_code
    if number in TEXT_TYPES:
        return bytes if field.charsetnr == _BINARY else bytes.decode
    known = _CONVERTERS.get(number)
    if known is not None:
        return known
    rare = decoders.get(number, str)
    return lambda data: rare(data.decode("ascii"))
