"""Where ours and the real library differ on purpose: each test shows both. docs/compatibility.md lists them.

The rows are those of its table; a test that is named there must be here, and the other way round.
"""

import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.wire import mlmd, service
from tests.judge.library import Library, library, ours
from tests.store.writing import node, properties, value

pytestmark = pytest.mark.judge

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
INT, STRING = mlmd.INT, mlmd.STRING


@pytest.fixture(scope="module")
def real() -> Iterator[Library]:
    with library() as opened:
        yield opened


class Two:
    """A store of the library's and one of ours, each in a file, with the types T (10, 11, 12) of the three kinds."""

    def __init__(self, real: Library, client: Client, files: list[Path]) -> None:
        self._real = real
        self._client = client
        self._files = files
        for kind in ("Artifact", "Execution", "Context"):
            declared = {"name": "T", "properties": {"i": INT, "d": mlmd.DOUBLE, "s": STRING}}
            self(f"Put{kind}Type", **{f"{kind.lower()}_type": declared})

    def __call__(self, name: str, **fields: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
        """(code, response) of the library, and ours."""
        request = getattr(service, f"{name}Request")(**fields)
        (code, _, response), (our_code, _, our_response) = (
            self._real.call(name, request),
            ours(self._client, name, request),
        )
        return (code, response), (our_code, our_response)

    def execute(self, statement: str) -> None:
        """Change both databases behind the stores' backs."""
        for file in self._files:
            database = sqlite3.connect(file, isolation_level=None)
            database.execute(statement)
            database.close()

    def codes(self, name: str, **fields: Any) -> tuple[str, str]:
        theirs, mine = self(name, **fields)
        return theirs[0], mine[0]


@pytest.fixture
def two(real: Library, tmp_path: Path) -> Iterator[Two]:
    files = [tmp_path / "library.db", tmp_path / "ours.db"]
    real.open(str(files[0]))
    with mdstore.connect(f"sqlite:///{files[1]}") as client:
        yield Two(real, client, files)


def artifact(**fields: Any) -> Any:
    return node("artifact", **({} if "id" in fields else {"type_id": 10}) | fields)


def put(two: Two, *artifacts: Any) -> None:
    assert two.codes("PutArtifacts", artifacts=artifacts) == ("OK", "OK")


def read(two: Two, node_id: int = 1) -> tuple[Any, Any]:
    """The artifact, or the code where it cannot be read: the library's and ours."""
    (code, theirs), (_, mine) = two("GetArtifactsByID", artifact_ids=[node_id])
    return theirs.artifacts[0] if code == "OK" else code, mine.artifacts[0]


def page(two: Two, **options: Any) -> list[tuple[str, int, bool]]:
    """Code, rows, and whether there is a token: the library's and ours."""
    return [
        (code, len(found.artifacts), bool(found.next_page_token))
        for code, found in two("GetArtifacts", options=options)
    ]


def test_lineage_starts_at_100_nodes_at_most(two: Two) -> None:
    two("PutArtifacts", artifacts=[artifact() for _ in range(150)])
    options = {"starting_artifacts": {"filter_query": "id > 20"}, "max_num_hops": 0}
    answers = two("GetLineageSubgraph", lineage_subgraph_query_options=options, read_mask={"paths": ["artifacts"]})
    theirs, mine = (sorted(found.id for found in response.lineage_subgraph.artifacts) for _, response in answers)
    assert theirs == list(range(21, 122))
    assert mine == list(range(21, 121))


def test_a_page_above_100_has_a_token(two: Two) -> None:
    put(two, *(artifact() for _ in range(150)))
    assert page(two, max_result_size=120) == [("OK", 101, False), ("OK", 100, True)]


def test_the_largest_page_size_is_capped(two: Two) -> None:
    put(two, artifact())
    assert page(two, max_result_size=2**31 - 1) == [("INVALID_ARGUMENT", 0, False), ("OK", 1, False)]


def pages(two: Two, field: str, most: int = 8) -> tuple[list[int], list[int]]:
    """The ids of the pages of two, each by its own tokens; gives up after `most`."""
    found: tuple[list[int], list[int]] = ([], [])
    for side, ids in enumerate(found):
        token = ""
        for _ in range(most):
            options = {"max_result_size": 2, "order_by_field": {"field": field}, "next_page_token": token}
            _, response = two("GetArtifacts", options=options)[side]
            ids += [node.id for node in response.artifacts]
            token = response.next_page_token
            if not token:
                break
    return found


def test_pages_by_create_time_skip_nothing(two: Two) -> None:
    put(two, *(artifact() for _ in range(6)))
    two.execute("UPDATE Artifact SET create_time_since_epoch = 100 - id")
    theirs, mine = pages(two, "CREATE_TIME")
    assert (theirs, mine) == ([6, 5], [6, 5, 4, 3, 2, 1])


def test_pages_by_update_time_end(two: Two) -> None:
    put(two, *(artifact() for _ in range(6)))
    two.execute("UPDATE Artifact SET last_update_time_since_epoch = 100")
    theirs, mine = pages(two, "LAST_UPDATE_TIME")
    assert len(theirs) > 6
    assert mine == [1, 2, 3, 4, 5, 6]


def test_a_taken_external_id_or_context_name_on_update_already_exists(two: Two) -> None:
    put(two, artifact(external_id="e"), artifact())
    assert two.codes("PutArtifacts", artifacts=[artifact(id=2, external_id="e")]) == ("INTERNAL", "ALREADY_EXISTS")
    two("PutContexts", contexts=[{"type_id": 12, "name": name} for name in "ab"])
    assert two.codes("PutContexts", contexts=[{"id": 2, "name": "a"}]) == ("INTERNAL", "ALREADY_EXISTS")


def test_a_taken_external_id_of_a_context_to_be_reused_already_exists(two: Two) -> None:
    two("PutContexts", contexts=[{"type_id": 12, "name": "a", "external_id": "e"}])
    request = {
        "execution": {"type_id": 11},
        "contexts": [{"type_id": 12, "name": "b", "external_id": "e"}],
        "options": {"reuse_context_if_already_exist": True},
    }
    assert two.codes("PutExecution", **request) == ("ABORTED", "ALREADY_EXISTS")


def test_a_taken_external_id_of_a_type_of_another_kind_already_exists(two: Two) -> None:
    two("PutArtifactType", artifact_type={"name": "A", "external_id": "e"})
    again = {"name": "B", "external_id": "e"}
    assert two.codes("PutArtifactType", artifact_type=again) == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    assert two.codes("PutContextType", context_type=again) == ("INTERNAL", "ALREADY_EXISTS")


def test_an_external_id_of_a_new_type_that_is_listed_twice_is_kept(two: Two) -> None:
    two("PutTypes", context_types=[{"name": "N", "external_id": "e"}, {"name": "N"}])
    theirs, mine = (found.context_type.external_id for _, found in two("GetContextType", type_name="N"))
    assert (theirs, mine) == ("", "e")


def test_a_declared_and_a_custom_property_of_one_name_are_two(two: Two) -> None:
    put(two, artifact(declared={"i": 1}, custom={"i": 2}))
    put(two, artifact(id=1, declared={"i": 3}))
    theirs, mine = read(two)
    assert (dict(mine.properties), dict(mine.custom_properties)) == ({"i": value(3)}, {})
    assert dict(theirs.properties) != {"i": value(3)}


def test_doubles_are_kept_to_the_last_bit(two: Two) -> None:
    put(two, artifact(custom={"x": 1e-7, "y": 0.1 + 0.2}))
    theirs, mine = read(two)
    assert mine.custom_properties == properties({"x": 1e-7, "y": 0.1 + 0.2})
    assert theirs.custom_properties == properties({"x": 0.0, "y": 0.3})


def test_not_a_number_is_an_invalid_argument_and_infinity_is_stored(two: Two) -> None:
    for wrong, expected in ((float("nan"), "INVALID_ARGUMENT"), (float("inf"), "OK"), (float("-inf"), "OK")):
        assert two.codes("PutArtifacts", artifacts=[artifact(custom={"x": wrong})]) == ("INTERNAL", expected)


@pytest.mark.parametrize("text", ["mlmd-struct::no base64", "__MLMD_NULL__"])
def test_texts_that_poison_a_row_are_refused(two: Two, text: str) -> None:
    assert two.codes("PutArtifacts", artifacts=[artifact(custom={"x": text})]) == ("OK", "INVALID_ARGUMENT")
    assert two("GetArtifactsByID", artifact_ids=[1])[0][0] in {"INTERNAL", "INVALID_ARGUMENT"}


def test_a_nul_is_refused_and_not_cut_off(two: Two) -> None:
    assert two.codes("PutArtifacts", artifacts=[artifact(custom={"x": "a\0b"})]) == ("OK", "INVALID_ARGUMENT")
    _, theirs = two("GetArtifactsByID", artifact_ids=[1])[0]
    assert theirs.artifacts[0].custom_properties["x"].string_value == "a"


def test_a_text_that_is_not_utf_8_is_refused(two: Two) -> None:
    wrong = mlmd.Artifact.FromString(b"\x10\x0a\x1a\x02\xff\xfe")
    assert two.codes("PutArtifacts", artifacts=[wrong]) == ("OK", "INVALID_ARGUMENT")


def test_a_message_without_type_url_is_refused(two: Two) -> None:
    wrong = artifact(custom={"x": mlmd.Value(proto_value={})})
    assert two.codes("PutArtifacts", artifacts=[wrong]) == ("OK", "INVALID_ARGUMENT")
    assert two("GetArtifactsByID", artifact_ids=[1])[0][0] == "INTERNAL"


def test_a_custom_property_without_a_value_is_refused_and_kills_nobody(tmp_path: Path) -> None:
    with library() as mortal, mdstore.connect(f"sqlite:///{tmp_path / 'ours.db'}") as client:
        mortal.open()
        asked = service.PutArtifactTypeRequest(artifact_type={"name": "T"})
        assert mortal.call("PutArtifactType", asked)[0] == ours(client, "PutArtifactType", asked)[0] == "OK"
        wrong = service.PutArtifactsRequest(artifacts=[artifact(custom={"x": mlmd.Value()})])
        assert ours(client, "PutArtifacts", wrong)[0] == "INVALID_ARGUMENT"
        with pytest.raises(AssertionError, match="died"):
            mortal.call("PutArtifacts", wrong)


def test_an_event_of_put_execution_needs_an_artifact_that_exists(two: Two) -> None:
    pair = {"event": {"artifact_id": 99, "type": "INPUT"}}
    codes = two.codes("PutExecution", execution={"type_id": 11}, artifact_event_pairs=[pair])
    assert codes == ("OK", "INVALID_ARGUMENT")


def test_an_edge_of_put_lineage_subgraph_needs_nodes_that_exist(two: Two) -> None:
    edge = {"event": {"artifact_id": 99, "execution_id": 99, "type": "INPUT"}}
    assert two.codes("PutLineageSubgraph", event_edges=[edge]) == ("OK", "INVALID_ARGUMENT")


def test_a_pair_of_put_execution_is_not_empty(two: Two) -> None:
    request = {"execution": {"type_id": 11}, "artifact_event_pairs": [{}], "contexts": [{"type_id": 12, "name": "c"}]}
    assert two.codes("PutExecution", **request) == ("OK", "INVALID_ARGUMENT")
    assert two.codes("GetArtifactsByContext", context_id=1) == ("INTERNAL", "OK")


def test_types_are_listed_with_their_external_id(two: Two) -> None:
    two("PutArtifactType", artifact_type={"name": "A", "external_id": "e"})
    theirs, mine = ([t.external_id for t in found.artifact_types] for _, found in two("GetArtifactTypes"))
    assert (theirs, mine) == (["", ""], ["", "e"])


def test_types_asked_by_external_id_are_complete(two: Two) -> None:
    declared = {"name": "E", "external_id": "e", "base_type": "TRAIN", "input_type": {"any": {}}}
    two("PutExecutionType", execution_type=declared)
    theirs, mine = (found.execution_types[0] for _, found in two("GetExecutionTypesByExternalIds", external_ids=["e"]))
    assert (theirs.HasField("base_type"), theirs.HasField("input_type")) == (False, False)
    assert (mine.base_type, mine.input_type.HasField("any")) == (mlmd.ExecutionType.TRAIN, True)


def test_types_that_come_with_artifacts_say_their_base_type(two: Two) -> None:
    two("PutArtifactType", artifact_type={"name": "A", "base_type": "MODEL"})
    put(two, node("artifact", type_id=13))
    theirs, mine = (
        found.artifact_types[0].HasField("base_type")
        for _, found in two("GetArtifactsByID", artifact_ids=[1], populate_artifact_types=True)
    )
    assert (theirs, mine) == (False, True)


def test_an_update_that_changes_nothing_does_not_move_the_update_time(two: Two) -> None:
    put(two, artifact(uri="u"))
    before = read(two)
    time.sleep(0.005)
    put(two, artifact(id=1, uri="u"))
    theirs, mine = read(two)
    assert theirs.last_update_time_since_epoch > before[0].last_update_time_since_epoch
    assert mine == before[1]


def test_of_several_mistakes_another_one_may_be_said(two: Two) -> None:
    put(two, artifact(external_id="e"))
    both = [artifact(external_id="e"), node("artifact", type_id=99)]
    assert two.codes("PutArtifacts", artifacts=both) == ("ALREADY_EXISTS", "NOT_FOUND")


def test_the_page_names_every_test_here_and_no_other() -> None:
    page = PAGE.read_text()
    here = {name for name in globals() if name.startswith("test_") and "page_names" not in name}
    assert set(re.findall(r"`tests/store/test_quirks\.py::(\w+)`", page)) == here
