"""A small API server: it tells recorded events over HTTP as Kubernetes' does, with the faults that one has.

The real one is in `tests/cluster`. This one is for what a real one does once in a month: it forgets what happened since
a version (410), breaks a watch in the middle of a line, answers 500, is away for a while.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

PLURALS: Final = {"workflows": "Workflow", "workflowtaskresults": "WorkflowTaskResult", "pods": "Pod"}

GONE: Final = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


@dataclass(slots=True)
class Api:
    """What the server holds; tests change it while it runs."""

    objects: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """(kind, uid) -> the object as it is now."""
    history: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    """(version, event), oldest first."""
    version: int = 1
    oldest: int = 0
    """A watch from a version before this is Gone."""
    broken: set[str] = field(default_factory=set)
    """Faults: `500`, `cut`."""
    requests: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def tell(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Let events happen."""
        with self.changed:
            for event in events:
                if event["type"] not in {"ADDED", "MODIFIED", "DELETED"}:
                    continue
                thing = event["object"]
                key = thing["kind"], thing["metadata"]["uid"]
                self.version = max(self.version + 1, int(thing["metadata"]["resourceVersion"]))
                if event["type"] == "DELETED":
                    self.objects.pop(key, None)
                else:
                    self.objects[key] = thing
                self.history.append((self.version, event))
            self.changed.notify_all()

    def forget(self) -> None:
        """Drop the history: whoever watches from before now has to list again."""
        with self.changed:
            self.oldest = self.version
            self.history.clear()
            self.changed.notify_all()

    def items(self, kind: str) -> list[dict[str, Any]]:
        """As a list has them: without their kind."""
        return [
            {name: value for name, value in thing.items() if name != "kind"}
            for (its_kind, _), thing in self.objects.items()
            if its_kind == kind
        ]

    def take_away(self, name: str) -> None:
        """Delete everything of a workflow while nobody is told."""
        with self.changed:
            for key, thing in list(self.objects.items()):
                owners = [owner["name"] for owner in thing["metadata"].get("ownerReferences", [])]
                if name in {thing["metadata"]["name"], *owners}:
                    del self.objects[key]


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            api.requests.append(self.path)
            if parts.path == "/version":
                self.answer(200, {"major": "1", "minor": "33"})
            elif "500" in api.broken:
                self.answer(500, {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"})
            elif query.get("watch") == "true":
                self.watch(PLURALS[parts.path.rpartition("/")[2]], int(query["resourceVersion"]))
            else:
                with api.changed:
                    items = api.items(PLURALS[parts.path.rpartition("/")[2]])
                    self.answer(200, {"metadata": {"resourceVersion": str(api.version)}, "items": items})

        def answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def watch(self, kind: str, version: int) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            deadline = time.monotonic() + 5
            try:
                while time.monotonic() < deadline:
                    with api.changed:
                        if version < api.oldest:
                            self.line({"type": "ERROR", "object": GONE})
                            break
                        due = [e for e in api.history if e[0] > version and e[1]["object"]["kind"] == kind]
                        if not due:
                            version = max(version, api.version)
                            metadata = {"resourceVersion": str(version)}
                            self.line({"type": "BOOKMARK", "object": {"kind": kind, "metadata": metadata}})
                            api.changed.wait(0.2)
                    for at, event in due:
                        line = json.dumps(event).encode() + b"\n"
                        if "cut" in api.broken:
                            api.broken.discard("cut")
                            self.chunk(line[: len(line) // 2])
                            self.close_connection = True
                            return
                        self.chunk(line)
                        version = at
                self.chunk(b"")
            except OSError:
                self.close_connection = True

        def line(self, event: Mapping[str, Any]) -> None:
            self.chunk(json.dumps(event).encode() + b"\n")

        def chunk(self, content: bytes) -> None:
            self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            self.wfile.flush()

    return Handler


@contextmanager
def serving(folder: Path, api: Api, *, port: int = 0) -> Iterator[Path]:
    """Serve `api` on loopback; gives a kubeconfig for it."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(api))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()
