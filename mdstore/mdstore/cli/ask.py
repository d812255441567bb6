"""HTTP questions to our own services on loopback.

By asyncio's streams and HTTP/1.0, because a question must be cancelled at once when Ctrl-C comes, and importing a
client library takes longer than the services take to answer.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit


async def get_status(url: str) -> int | None:
    """The HTTP status that `url` answers with; None when nobody answers."""
    try:
        status, _ = await _request("GET", url, b"")
    except (OSError, ValueError, asyncio.IncompleteReadError):
        return None
    return status


async def post_json(url: str, body: object) -> Any:
    """The JSON that `url` answers a JSON question with.

    Raises:
        OSError: nobody answers.
        ValueError: the answer is not JSON, or has a status other than 200.
    """
    status, answer = await _request("POST", url, json.dumps(body).encode())
    if status != 200:
        raise ValueError(f"{url} answered {status}: {answer[:500].decode(errors='replace')}")
    return json.loads(answer)


async def _request(method: str, url: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"{method} {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nAccept: application/json\r\n\r\n".encode() + body)
        await writer.drain()
        answer = await reader.read(-1)
    finally:
        writer.close()
    head_bytes, _, content = answer.partition(b"\r\n\r\n")
    words = head_bytes.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError(f"{url} does not speak HTTP")
    return int(words[1]), content
