"""The real library behind a pipe, beside a store of ours: the same calls go to both, and the answers are compared."""

import base64
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path
from typing import Any

import grpc

from mdstore.client.client import Client
from mdstore.errors import STATUS, MetadataError
from mdstore.store.operations.lists import MOST
from mdstore.wire import mlmd, service
from tests import needs

SCRIPT = Path(__file__).parent / "scripts" / "library.py"
CODES = {code.value[0]: code for code in grpc.StatusCode}
# What is between these was made by a clock, and not given in a request.
BEGIN_MS = 1_600_000_000_000
END_MS = 4_000_000_000_000


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
        if name in _WITHOUT_BINDING:
            return self._composed(name, request)
        answer = self._ask(method=name, request=base64.b64encode(request.SerializeToString()).decode())
        assert "absent" not in answer, f"the library's binding has no {name}"
        response = getattr(service, f"{name}Response")
        code = CODES[answer["code"]].name
        return (
            code,
            answer["message"],
            response.FromString(base64.b64decode(answer["response"]) if code == "OK" else b""),
        )

    def _composed(self, name: str, request: Any) -> tuple[str, str, Any]:
        """What the server makes of calls that this binding has, for an RPC that it has not."""
        response = getattr(service, f"{name}Response")()
        if name == "GetLineageGraph":
            return "UNIMPLEMENTED", "as every server of the library's answers", response
        each = name.removesuffix("s")
        for context_id in set(request.context_ids):
            code, message, found = self.call(each, getattr(service, f"{each}Request")(context_id=context_id))
            if code != "OK":
                return code, message, response
            if found.contexts:
                entry = response.contexts[context_id]
                getattr(entry, entry.DESCRIPTOR.fields[0].name).extend(found.contexts)
        return "OK", "", response


_WITHOUT_BINDING = ("GetParentContextsByContexts", "GetChildrenContextsByContexts", "GetLineageGraph")


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
        found.next_page_token = _blurred(found.next_page_token)
    # The library promises no order for these, and gives that of an index.
    if name == "GetArtifactsByURI":
        found.artifacts.sort(key=lambda artifact: artifact.id)
    if name == "GetArtifactsByID":
        found.artifact_types.sort(key=lambda type_: type_.id)
    if name.endswith("TypesByExternalIds"):
        getattr(found, found.DESCRIPTOR.fields[0].name).sort(key=lambda type_: type_.id)
    if "events" in found.DESCRIPTOR.fields_by_name:
        found.events.sort(key=lambda event: (event.artifact_id, event.execution_id, event.type))
    if name == "GetLineageSubgraph":
        _arrange(found.lineage_subgraph)
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


def _arrange(graph: Any) -> None:
    """A lineage graph in one order, and its types without the external id, which the library leaves out."""
    for field, parts in graph.ListFields():
        parts.sort(key=lambda part: part.SerializeToString(deterministic=True))
        if field.name.endswith("_types"):
            for type_ in parts:
                type_.ClearField("external_id")


def _blurred(token: str) -> str:
    """What a page's token says, without a clock's time."""
    found = mlmd.ListOperationNextPageToken.FromString(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    found.field_offset = min(found.field_offset, BEGIN_MS)
    return str(found)


_TIMES = ("create_time_since_epoch", "last_update_time_since_epoch", "milliseconds_since_epoch")


def _blur(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in _TIMES:
            if BEGIN_MS < value < END_MS:
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
        self.of_rpcs: dict[str, Counter[str]] = {}
        """Of each RPC that was called: how often the library answered with which code."""

    def call(
        self,
        name: str,
        request: Any,
        *,
        complete: Callable[[Any, Callable[[str, Any], Any]], None] | None = None,
        known: Callable[[str, str, Any], bool] = lambda *_: False,
        codes_only: bool = False,
    ) -> tuple[Any, Any]:
        """Call both and compare; gives both responses.

        Args:
            name: of the RPC.
            request: its message.
            complete: fills into a copy of the request what each side has of its own, such as a time or a token; may ask
                its side by a function of name and request.
            known: whether codes (library's, ours) that differ for this request are a difference that was decided.
            codes_only: that what is in the responses differs was decided too.
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
        self.of_rpcs.setdefault(name, Counter())[code] += 1
        if code == our_code or not known(code, our_code, request):
            told = f"call {self.calls}, {name}: {str(request)[:3000]}"
            assert our_code == code, f"ours: {our_code} ({our_message}), the library: {code} ({message}); {told}"
            difference = "" if codes_only else compared(name, request, response, our_response)
            assert not difference, f"{difference}\n{told}"
        return response, our_response

    def ask_library(self, name: str, request: Any) -> Any:
        """The library's response alone."""
        return self.library.call(name, request)[2]

    def ask_ours(self, name: str, request: Any) -> Any:
        """Our response alone."""
        return ours(self.client, name, request)[2]


def compared(name: str, request: Any, theirs: Any, mine: Any) -> str:
    """How the two responses differ in what may not differ; empty when they do not."""
    left, right = normalised(name, theirs), normalised(name, mine)
    if "options" in request.DESCRIPTOR.fields_by_name and "next_page_token" in right.DESCRIPTOR.fields_by_name:
        _cut(request.options.max_result_size, left, right)
    _forget_moves(left, right)
    # As bytes, since a number that is none is not equal to itself.
    if left == right or left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True):
        return ""
    return "\n".join(unified_diff(str(left).splitlines(), str(right).splitlines(), "library", "ours", lineterm=""))


def _forget_moves(theirs: Any, mine: Any) -> None:
    """Where the library moved the update time of a node and ours did not, as nothing had changed, take its time."""
    if "last_update_time_since_epoch" in theirs.DESCRIPTOR.fields_by_name:
        if theirs.last_update_time_since_epoch == BEGIN_MS:
            mine.last_update_time_since_epoch = BEGIN_MS
        return
    for field, value in theirs.ListFields():
        other = getattr(mine, field.name)
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in set(value) & set(other):
                    _forget_moves(value[key], other[key])
        elif field.is_repeated:
            for left, right in zip(value, other, strict=False):
                _forget_moves(left, right)
        else:
            _forget_moves(value, other)


def _cut(size: int, theirs: Any, mine: Any) -> None:
    """Of a page above 100 the library gives one node more than ours and no token: compare what both give."""
    listed = getattr(theirs, theirs.DESCRIPTOR.fields[0].name)
    if size > MOST and len(listed) > MOST:
        del listed[MOST:]
        theirs.next_page_token = mine.next_page_token
