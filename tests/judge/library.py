"""The real library behind a pipe, beside a store of ours: the same calls go to both, and the answers are compared."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path
from typing import Any

import grpc

from mdstore.client.client import Client
from mdstore.errors import STATUS, MetadataError
from mdstore.wire import service
from tests import needs

SCRIPT = Path(__file__).parent / "scripts" / "library.py"
CODES = {code.value[0]: code for code in grpc.StatusCode}
# What is later than this was made by a clock, and not given in a request.
BEGIN_MS = 1_600_000_000_000


class Library:
    """The library's store. Values cross as bytes, because its message classes have the names of ours."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the library died of {question}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def open(self, where: str | dict[str, Any] = "") -> None:
        """Begin anew with this SQLite file or `ConnectionConfig`, or with an empty store in memory."""
        self._ask(open=where)

    def call(self, name: str, request: Any) -> tuple[str, str, Any]:
        """The code's name, the message, and the response (empty after an error)."""
        answer = self._ask(method=name, request=base64.b64encode(request.SerializeToString()).decode())
        assert "absent" not in answer, f"the library's binding has no {name}"
        response = getattr(service, f"{name}Response")
        code = CODES[answer["code"]].name
        return (
            code,
            answer["message"],
            response.FromString(base64.b64decode(answer["response"]) if code == "OK" else b""),
        )


@contextmanager
def library() -> Iterator[Library]:
    """The library in a process of the judge's environment."""
    process = subprocess.Popen(
        [needs.judge_python(), "-I", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Library(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


def ours(client: Client, name: str, request: Any) -> tuple[str, str, Any]:
    """The same from a store of ours."""
    try:
        response = client._call(f"/ml_metadata.MetadataStoreService/{name}", request, None)
    except MetadataError as error:
        return STATUS[type(error)].code, str(error), getattr(service, f"{name}Response")()
    return "OK", "", response


def normalised(name: str, response: Any) -> Any:
    """The response without what may differ: times of a clock, tokens (which hold them), orders that nobody promises."""
    found = type(response)()
    found.CopyFrom(response)
    _blur(found)
    if "next_page_token" in found.DESCRIPTOR.fields_by_name and found.next_page_token:
        found.next_page_token = "some"
    # The library promises no order for these, and gives that of an index.
    if name == "GetArtifactsByURI":
        found.artifacts.sort(key=lambda artifact: artifact.id)
    if name == "GetArtifactsByID":
        found.artifact_types.sort(key=lambda type_: type_.id)
    if name.endswith("TypesByExternalIds"):
        getattr(found, found.DESCRIPTOR.fields[0].name).sort(key=lambda type_: type_.id)
    if "events" in found.DESCRIPTOR.fields_by_name:
        found.events.sort(key=lambda event: (event.artifact_id, event.execution_id, event.type))
    for field in ("artifact_types", "execution_types", "context_types"):
        if field in found.DESCRIPTOR.fields_by_name:
            for type_ in getattr(found, field):
                # What the library leaves out: in lists one thing, and by external id what is in tables of its own.
                if name.endswith("Types"):
                    type_.ClearField("external_id")
                if not name.endswith("TypesByID"):
                    type_.ClearField("base_type")
                if name == "GetExecutionTypesByExternalIds":
                    type_.ClearField("input_type")
                    type_.ClearField("output_type")
    return found


_TIMES = ("create_time_since_epoch", "last_update_time_since_epoch", "milliseconds_since_epoch")


def _blur(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in _TIMES:
            if value > BEGIN_MS:
                setattr(message, field.name, BEGIN_MS)
        elif field.message_type is None or field.name == "struct_value":
            continue
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    _blur(value[key])
        elif isinstance(value, type(message)) or hasattr(value, "ListFields"):
            _blur(value)
        else:
            for item in value:
                _blur(item)


class Both:
    """The library and a store of ours, told the same."""

    def __init__(self, library: Library, client: Client) -> None:
        self.library = library
        self.client = client
        self.calls = 0
        self.codes: dict[str, int] = {}

    def call(
        self,
        name: str,
        request: Any,
        *,
        complete: Callable[[Any, Callable[[str, Any], Any]], None] | None = None,
        known: Callable[[str, str, Any], bool] = lambda *_: False,
    ) -> tuple[Any, Any]:
        """Call both and compare; gives both responses.

        Args:
            name: of the RPC.
            request: its message.
            complete: fills into a copy of the request what each side has of its own, such as a time or a token; may ask
                its side by a function of name and request.
            known: whether codes (library's, ours) that differ for this request are a difference that was decided.
        """
        requests = []
        for ask in (self.ask_library, self.ask_ours):
            sent = type(request)()
            sent.CopyFrom(request)
            if complete is not None:
                complete(sent, ask)
            requests.append(sent)
        code, message, response = self.library.call(name, requests[0])
        our_code, our_message, our_response = ours(self.client, name, requests[1])
        self.calls += 1
        self.codes[code] = self.codes.get(code, 0) + 1
        if not (code != our_code and known(code, our_code, request)):
            told = f"call {self.calls}, {name}: {request}"
            assert our_code == code, f"ours: {our_code} ({our_message}), the library: {code} ({message}); {told}"
            theirs, mine = normalised(name, response), normalised(name, our_response)
            assert mine == theirs, (
                "\n".join(unified_diff(*(str(m).splitlines() for m in (theirs, mine)), "library", "ours")) + told
            )
        return response, our_response

    def ask_library(self, name: str, request: Any) -> Any:
        """The library's response alone."""
        return self.library.call(name, request)[2]

    def ask_ours(self, name: str, request: Any) -> Any:
        """Our response alone."""
        return ours(self.client, name, request)[2]
