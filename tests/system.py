"""`mdstore up` as a process of its own, and questions to its GraphQL API."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.up.processes import Running

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A running `mdstore up`, on free ports of loopback."""

    grpc_port: int
    url: str
    """Of GraphQL."""
    process: Running

    @property
    def store_url(self) -> str:
        """Of the store, for the commands of `mdstore`."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def ask(self, query: str, **variables: object) -> Any:
        """What GraphQL answers, as its `data`; an error in the answer fails the test."""
        response = httpx.post(self.url, json={"query": query, "variables": variables}, timeout=30)
        answer = response.json()
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def eventually(self, ask: Callable[[], T], holds: Callable[[T], bool], *, seconds: float = 10) -> T:
        """The first answer of `ask` for which `holds`, or the last one in time."""
        deadline = time.monotonic() + seconds
        while not holds(answer := ask()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return answer


@contextmanager
def running(data: Path, *options: str, seconds: float = 60) -> Iterator[System]:
    """Start `mdstore up` with its data in `data`; it is ready when this returns, and stopped at the end."""
    command = [sys.executable, "-m", "mdstore", "up", "--data", str(data), "--grpc-port", "0", "--http-port", "0"]
    with Running([*command, *options]) as process:
        process.wait_for("mdstore is ready after", seconds=seconds)
        grpc = process.wait_for(r"gRPC \(MLMD clients\)\s+127\.0\.0\.1:(\d+)")
        url = process.wait_for(r"GraphQL\s+(http://\S+)")
        yield System(grpc_port=int(grpc[1]), url=url[1], process=process)
