"""The same calls to the real library and to ours: same codes, same ids, same answers."""

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.wire import mlmd, service
from tests.judge.library import Both, Library, library
from tests.store import decided
from tests.store.requests import READS, WRITES
from tests.store.side_by_side import ROUNDS, play, side_by_side

pytestmark = pytest.mark.judge

SEEDS = range(24)
LEAST_CALLS = 850
"""Of each seed's sequence."""


@pytest.fixture(scope="module")
def real() -> Iterator[Library]:
    with library() as opened:
        yield opened


@pytest.fixture
def both(real: Library) -> Iterator[Both]:
    real.open()
    with mdstore.connect("sqlite://") as client:
        yield Both(real, client)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_calls_of_every_rpc_are_answered_alike(real: Library, seed: int) -> None:
    with side_by_side(real, served=seed % 4 == 0) as both:
        play(both, seed)
        counts = {name: both.of_rpcs.get(name, Counter()) for name in (*READS, *WRITES)}
        assert len(counts) == 52
        assert min(codes.total() for codes in counts.values()) >= ROUNDS, counts
        assert [name for name, codes in counts.items() if not codes["OK"]] == ["GetLineageGraph"], counts
        assert set(both.codes) >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "UNIMPLEMENTED"}
        # The random writes are not refused all, and those that only one side takes are few.
        writes = [counts[name] for name in dict.fromkeys(WRITES)]
        assert sum(codes["OK"] for codes in writes) > sum(codes.total() for codes in writes) / 5, counts
        assert 0 < both.set_aside < both.calls / 5
        assert both.calls >= LEAST_CALLS


def test_the_seeds_are_enough() -> None:
    assert len(SEEDS) * LEAST_CALLS >= 20_000


def test_every_rule_is_a_row_of_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "compatibility.md").read_text()
    assert [rule.row for rule in decided.RULES if f"\n| {rule.row}" not in page] == []


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
