"""The same calls to the real library and to ours: same codes, same ids, same answers."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

import mdstore
from mdstore.wire import mlmd, service
from tests.judge.library import Both, Library, library
from tests.store.requests import Requests
from tests.store.writing import KINDS

pytestmark = pytest.mark.judge

SEEDS = range(12)
CALLS = 400


@pytest.fixture(scope="module")
def real() -> Iterator[Library]:
    with library() as opened:
        yield opened


@pytest.fixture
def both(real: Library) -> Iterator[Both]:
    real.open()
    with mdstore.connect("sqlite://") as client:
        yield Both(real, client)


def decided(library_code: str, our_code: str, request: Any) -> bool:
    """Differences in how a mistake is said, see docs/compatibility.md; both refuse the request."""
    if our_code == "OK":
        return False
    # A name that is taken, on updates and across kinds of types.
    if library_code == "INTERNAL":
        return True
    # Of several mistakes in one request: the library writes one thing after the other, we check all and then write.
    several = sum(len(value) for field, value in request.ListFields() if field.is_repeated) > 1
    return several and library_code == "ALREADY_EXISTS" and our_code in {"INVALID_ARGUMENT", "NOT_FOUND"}


@pytest.mark.parametrize("seed", SEEDS)
def test_random_calls_are_answered_alike(both: Both, seed: int) -> None:
    requests = Requests(seed)
    for kind in KINDS:
        letters = kind.title()
        for name in "TU":
            wanted = getattr(mlmd, f"{letters}Type")(
                name=name,
                properties={"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "t": mlmd.STRUCT, "b": mlmd.BOOLEAN},
            )
            both.call(f"Put{letters}Type", getattr(service, f"Put{letters}TypeRequest")(**{f"{kind}_type": wanted}))
        few = [{"type_id": 10 + 2 * KINDS.index(kind), "name": str(n)} for n in range(3)]
        both.call(f"Put{letters}s", getattr(service, f"Put{letters}sRequest")(**{f"{kind}s": few}))
    for number in range(CALLS):
        name, request = requests.write() if number % 3 else requests.read()
        both.call(name, request, known=decided)
    # Everything that is there, at the end.
    for kind in KINDS:
        letters = kind.title()
        both.call(f"Get{letters}s", getattr(service, f"Get{letters}sRequest")())
        both.call(f"Get{letters}Types", getattr(service, f"Get{letters}TypesRequest")())
    both.call("GetEventsByExecutionIDs", service.GetEventsByExecutionIDsRequest(execution_ids=range(-1, 200)))
    assert both.codes["OK"] > CALLS / 4, both.codes
    assert set(both.codes) >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"}, both.codes


def put_artifacts(count: int, type_id: int = 10) -> service.PutArtifactsRequest:
    return service.PutArtifactsRequest(artifacts=[{"type_id": type_id, "uri": str(n)} for n in range(count)])


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("field", ["ID", "CREATE_TIME"])
@pytest.mark.parametrize("size", [1, 7, 20, 100])
def test_lists_are_paged_alike_by_each_ones_own_tokens(both: Both, field: Any, ascending: bool, size: int) -> None:
    both.call("PutArtifactType", service.PutArtifactTypeRequest(artifact_type={"name": "T"}))
    both.call("PutArtifacts", put_artifacts(30))
    options = {"max_result_size": size, "order_by_field": {"field": field, "is_asc": ascending}}
    tokens = {both.ask_library: "", both.ask_ours: ""}

    def complete(request: Any, ask: Any) -> None:
        request.options.next_page_token = tokens[ask]

    for _ in range(40):
        answers = both.call("GetArtifacts", service.GetArtifactsRequest(options=options), complete=complete)
        tokens = dict(zip(tokens, (answer.next_page_token for answer in answers), strict=True))
        if not any(tokens.values()):
            return
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("field", ["ID", "CREATE_TIME", "LAST_UPDATE_TIME"])
def test_a_token_of_the_library_is_understood(both: Both, field: Any) -> None:
    both.call("PutArtifactType", service.PutArtifactTypeRequest(artifact_type={"name": "T"}))
    for _ in range(5):
        both.call("PutArtifacts", put_artifacts(1))
    options = {"max_result_size": 2, "order_by_field": {"field": field}}
    request = service.GetArtifactsRequest(options=options)
    theirs, ours = both.call("GetArtifacts", request)
    # The same place, said in our times: those are the only difference.
    as_message = [
        mlmd.ListOperationNextPageToken.FromString(_decoded(answer.next_page_token)) for answer in (theirs, ours)
    ]
    for token in as_message:
        if field != "ID":
            token.ClearField("field_offset")
    assert as_message[0] == as_message[1]


def _decoded(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def test_guarded_updates_are_answered_alike(both: Both) -> None:
    both.call("PutArtifactType", service.PutArtifactTypeRequest(artifact_type={"name": "T"}))
    both.call("PutArtifacts", put_artifacts(2))

    def current(request: Any, ask: Any) -> None:
        found = ask("GetArtifactsByID", service.GetArtifactsByIDRequest(artifact_ids=[1])).artifacts[0]
        request.artifacts[0].last_update_time_since_epoch = found.last_update_time_since_epoch

    guarded = service.PutArtifactsRequest(artifacts=[{"id": 1, "uri": "new"}])
    guarded.options.abort_if_latest_updated_time_changed = True
    masked = service.PutArtifactsRequest(
        update_mask={"paths": ["state"]}, artifacts=[{"id": 1, "uri": "x", "state": 2}]
    )
    masked.options.abort_if_latest_updated_time_changed = True
    for request, complete in ((guarded, current), (guarded, None), (masked, current), (masked, None)):
        both.call("PutArtifacts", request, complete=complete)
        both.call("GetArtifactsByID", service.GetArtifactsByIDRequest(artifact_ids=[1]))
    assert both.codes == {"OK": 8, "FAILED_PRECONDITION": 2}
