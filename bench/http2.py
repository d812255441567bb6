"""A gRPC client that costs almost nothing: one connection, one unary call at a time, messages as bytes.

Why not grpcio: on two cores it takes as much of them as the server that it is to measure, and then a bench measures
itself. This one sends a frame of headers that the server has in its table after the first call, and looks into
nothing of the answer but its last header, `grpc-status`. It speaks to gRPC's C core, plain text, on loopback.
"""

import socket
import struct
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _MORE_HEADERS = 0, 1, 3, 4, 6, 7, 8, 9
_END, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_LARGEST: Final = 2**31 - 1
_RENEWED: Final = 2**30
"""How many bytes are read before the server is allowed as many again."""
_STATIC: Final = 61
CODES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    assert len(value) < 127, "a length of one byte"
    return bytes((len(value),)) + value


class Connection:
    """One connection, for calls of one method, one after the other. Threads: belongs to one."""

    def __init__(self, port: int, method: str) -> None:
        """Connect to a server on this machine.

        Args:
            port: of the server.
            method: the path, "/package.Service/Method".
        """
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", 3, 100, 4, _LARGEST)
        self.socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, struct.pack(">I", _LARGEST - 65535))
        )
        # All of these are put into the server's table by the first call and are one byte each in the others.
        self._headers = (
            b"\x83\x86\x44" + _text(method.encode()) + b"\x41" + _text(f"127.0.0.1:{port}".encode())
            + b"\x40" + _text(b"te") + _text(b"trailers") + b"\x5f" + _text(b"application/grpc")
        )  # fmt: skip
        self._stream = -1
        self._buffer = bytearray()
        self._window = 65535
        self._read = 0
        self._table: list[tuple[bytes, bytes]] = []
        self._status_of: dict[bytes, bytes] = {}
        self._begin()

    def _begin(self) -> None:
        self._block = b""
        self._has_data = False
        self._size = 0

    def send(self, message: bytes) -> None:
        """Begin a call; the one before it has been answered."""
        self._stream += 2
        self._begin()
        frames = _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
        self._headers = b"\x83\x86\xc1\xc0\xbf\xbe"
        data = struct.pack(">BI", 0, len(message)) + message
        # The server opens its window again as it reads; what is larger than the rest of it waits.
        while self._window < len(data):
            self.receive()
        self._window -= len(data)
        for start in range(0, len(data), 16384):
            part = data[start : start + 16384]
            frames += _frame(_DATA, _END if start + 16384 >= len(data) else 0, self._stream, part)
        self.socket.sendall(frames)

    def receive(self) -> str | None:
        """Take in what has come: the call's status when it is answered, or None when more is to come.

        Raises:
            ConnectionError: the server has ended the connection.
        """
        part = self.socket.recv(262144)
        if not part:
            raise ConnectionError("the server has ended the connection")
        self._read += len(part)
        if self._read > _RENEWED:
            self.socket.sendall(_frame(_WINDOW, 0, 0, struct.pack(">I", self._read)))
            self._read = 0
        buffer = self._buffer
        buffer += part
        status = None
        place = 0
        while len(buffer) - place >= 9:
            size = int.from_bytes(buffer[place : place + 3], "big")
            end = place + 9 + size
            if len(buffer) < end:
                break
            kind, flags = buffer[place + 3], buffer[place + 4]
            if kind == _DATA:
                self._has_data = True
                self._size += size
            elif kind in (_HEADERS, _MORE_HEADERS):
                self._block += buffer[place + 9 : end]
                if flags & _END_HEADERS:
                    self._status = self._decode(self._block)
                    self._block = b""
            else:
                self._other(kind, flags, bytes(buffer[place + 9 : end]))
            if kind in (_DATA, _HEADERS) and flags & _END:
                status = CODES[int(self._status)]
            elif kind == _RESET:
                status = "RESET"
            place = end
        del buffer[:place]
        return status

    def _other(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._window += int.from_bytes(payload, "big")
        elif kind == _GOAWAY:
            raise ConnectionError(f"the server goes away: {payload[8:].decode(errors='replace')}")

    def _decode(self, block: bytes) -> bytes:
        """`grpc-status` of a block of headers, empty when it is not there."""
        known = self._status_of.get(block)
        if known is not None:
            return known
        found, place, changed = b"", 0, False
        while place < len(block):
            first = block[place]
            if first & 0x80:
                index, place = _number(block, place, 7)
                name, value = self._entry(index)
            elif first & 0xE0 == 0x20:
                _, place = _number(block, place, 5)
                continue
            else:
                kept = bool(first & 0x40)
                index, place = _number(block, place, 6 if kept else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, place = _string(block, place)
                value, place = _string(block, place)
                if kept:
                    self._table.insert(0, (name, value))
                    changed = True
            if name == b"grpc-status":
                found = value
        if changed:
            self._status_of.clear()
        else:
            self._status_of[block] = found
        return found

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        return self._table[index - _STATIC - 1] if index > _STATIC else (b"", b"")

    def close(self) -> None:
        """End the connection."""
        self.socket.close()


def _number(block: bytes, place: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[place] & most
    place += 1
    if value < most:
        return value, place
    shift = 0
    while True:
        byte = block[place]
        place += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, place


def _string(block: bytes, place: int) -> tuple[bytes, int]:
    # gRPC's core sends its names and numbers as they are; what is Huffman-coded is nothing that is looked for.
    size, place = _number(block, place, 7)
    return block[place : place + size], place + size
