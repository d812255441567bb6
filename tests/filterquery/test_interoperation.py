"""Filters over one database that both know: what the library wrote, asked of us, and what we wrote, asked of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.wire import mlmd, service
from tests.databases.fixtures import ENGINES
from tests.judge.library import Library, library, ours
from tests.store.writing import node

pytestmark = pytest.mark.judge

Ask = Callable[[str, Any], tuple[str, str, Any]]
COUNT = 6

FILTERS = [
    ("artifact", "id IN (2, 3, 5)"),
    ("artifact", "name = 'a3'"),
    ("artifact", "name != 'a3' AND id > 2"),
    ("artifact", "name LIKE 'a_'"),
    ("artifact", "name LIKE '%2' OR uri LIKE 's3://b/4%'"),
    ("artifact", "uri = 's3://b/1'"),
    ("artifact", "external_id = 'ext5'"),
    ("artifact", "external_id IS NULL"),
    ("artifact", "type = 'Data'"),
    ("artifact", "type IN ('Data', 'Model') AND NOT name = 'a0'"),
    ("artifact", "state = LIVE"),
    ("artifact", "state IN (LIVE, PENDING)"),
    ("artifact", "state != DELETED"),
    ("artifact", "state IS NULL"),
    ("artifact", "create_time_since_epoch > 0 AND last_update_time_since_epoch > 1000"),
    ("artifact", "create_time_since_epoch = last_update_time_since_epoch"),
    ("artifact", "properties.i.int_value = 4"),
    ("artifact", "properties.i.int_value BETWEEN 1 AND 3"),
    ("artifact", "properties.i.int_value > 1 AND properties.i.int_value <= 4"),
    ("artifact", "properties.d.double_value >= 0.75"),
    ("artifact", "properties.s.string_value = 'même 漢字'"),
    ("artifact", "properties.b.bool_value = TRUE"),
    ("artifact", "custom_properties.n.int_value = 2 OR custom_properties.n.int_value = 3"),
    ("artifact", "custom_properties.`my key`.string_value = 'v1'"),
    ("artifact", "custom_properties.n.int_value = 2 AND properties.i.int_value = 2"),
    ("artifact", "properties.i.int_value = custom_properties.n.int_value"),
    ("artifact", "properties.nothing.int_value = 1"),
    ("artifact", "contexts_a.name = 'c0'"),
    ("artifact", "contexts_a.name = 'c0' AND contexts_b.name = 'c1'"),
    ("artifact", "contexts_a.type = 'Run' AND contexts_a.id = 2"),
    ("artifact", "events_0.type = INPUT"),
    ("artifact", "events_0.type = OUTPUT AND events_0.execution_id = 2"),
    ("artifact", "events_0.milliseconds_since_epoch > 1002"),
    ("artifact", "events_0.type = INPUT AND contexts_a.name = 'c1' AND properties.i.int_value < 4"),
    ("artifact", "coalesce(external_id, 'none') = 'none'"),
    ("artifact", "CASE WHEN id < 3 THEN 'low' ELSE 'high' END = 'low'"),
    ("artifact", "abs(id - 4) < 2"),
    ("artifact", "upper(name) = 'A4'"),
    ("artifact", "trim(name) = 'a1'"),
    ("artifact", "TRUE"),
    ("artifact", "FALSE OR id = 1"),
    ("execution", "last_known_state = RUNNING"),
    ("execution", "last_known_state IN (COMPLETE, FAILED) AND type = 'Train'"),
    ("execution", "custom_properties.parent_dag_id.int_value = 1"),
    ("execution", "contexts_run.name = 'c1' AND custom_properties.parent_dag_id.int_value = 2"),
    ("execution", "events_x.artifact_id = 3"),
    ("execution", "name IN ('e1', 'e2', 'nobody')"),
    ("context", "type = 'Pipe'"),
    ("context", "artifacts_a.name = 'a3'"),
    ("context", "executions_e.name = 'e2' AND artifacts_a.uri = 's3://b/3'"),
    ("context", "parent_contexts_p.name = 'c3'"),
    ("context", "child_contexts_c.name = 'c0' AND child_contexts_c.type = 'Run'"),
    ("context", "custom_properties.k.string_value IN ('v0', 'v2')"),
    ("context", "executions_e.last_known_state = RUNNING"),
    # Refused by both
    ("artifact", "name ="),
    ("artifact", "nobody = 1"),
    ("execution", "uri = 'x'"),
    ("context", "events_0.type = INPUT"),
    ("artifact", "id = 'x'"),
]

SQLITE_ONLY = {
    "postgresql": {
        "id = 1.0": [1],
        "id BETWEEN 1.5 AND 4": [2, 3, 4],
        "id / 2 = 0.5": [1],
        "id NOT IN (1, NULL)": [],
        "coalesce(id, 1.5) = 1": [1],
        'name = "it\'s" OR id = 3': [3],
    },
    "mariadb": {
        "id = 1.0": [1],
        "id BETWEEN 1.5 AND 4": [2, 3, 4],
        "id / 2 = 0.5": [1],
        "id NOT IN (1, NULL)": [],
        "trim(name, 'a') = '3'": [4],
        "rtrim(name, '3') = 'a'": [4],
    },
}
"""What the library answers on SQLite, and on this database not; with our answer."""

LINEAGE = [
    ({"starting_artifacts": "name = 'a0'"}, "DOWNSTREAM"),
    ({"starting_artifacts": "properties.i.int_value = 3 AND type = 'Model'"}, "UPSTREAM"),
    ({"starting_artifacts": "contexts_a.name = 'c1'"}, "BIDIRECTIONAL"),
    ({"starting_executions": "name IN ('e0', 'e3')"}, "DOWNSTREAM"),
    ({"starting_executions": "custom_properties.parent_dag_id.int_value = 1"}, "UPSTREAM"),
    ({"starting_executions": "last_known_state = RUNNING"}, "BIDIRECTIONAL"),
    ({"starting_artifacts": "name = 'a0'", "ending_artifacts": "name = 'a3'"}, "DOWNSTREAM"),
    ({"starting_artifacts": "name = 'a0'", "ending_executions": "events_0.artifact_id = 4"}, "DOWNSTREAM"),
    ({"starting_artifacts": "name = 'nobody'"}, "DOWNSTREAM"),
    ({"starting_artifacts": "name = "}, "DOWNSTREAM"),
]


def write(ask: Ask) -> None:
    """A chain of executions with an artifact between each two, in contexts of contexts."""

    def do(name: str, **fields: Any) -> Any:
        code, said, response = ask(name, getattr(service, f"{name}Request")(**fields))
        assert code == "OK", said
        return response

    declared = {"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "b": mlmd.BOOLEAN}
    types: dict[str, int] = {}
    for kind, name in (("artifact", "Data"), ("artifact", "Model"), ("execution", "Train"), ("context", "Run")):
        given = {f"{kind}_type": {"name": name, "properties": declared}}
        types[name] = do(f"Put{kind.title()}Type", **given).type_id
    types["Pipe"] = do("PutContextType", context_type={"name": "Pipe"}).type_id
    artifacts = [
        node(
            "artifact",
            type_id=types["Model" if n % 2 else "Data"],
            name=f"a{n}",
            uri=f"s3://b/{n}",
            declared={"i": n, "d": n / 4, "s": "même 漢字" if n == 2 else "other", "b": n % 3 == 0},
            custom={"n": 5 - n, "my key": f"v{n}"},
            **({"external_id": f"ext{n}"} if n > 3 else {}),
            **({"state": 1 + n % 4} if n % 3 else {}),
        )
        for n in range(COUNT)
    ]
    executions = [
        node(
            "execution",
            type_id=types["Train"],
            name=f"e{n}",
            last_known_state=1 + n % 5,
            custom={"parent_dag_id": 1 + n % 2},
        )
        for n in range(COUNT - 1)
    ]
    contexts = [
        node("context", type_id=types["Run" if n < 3 else "Pipe"], name=f"c{n}", custom={"k": f"v{n}"})
        for n in range(5)
    ]
    made = {
        "artifact": do("PutArtifacts", artifacts=artifacts).artifact_ids,
        "execution": do("PutExecutions", executions=executions).execution_ids,
        "context": do("PutContexts", contexts=contexts).context_ids,
    }
    # The filters name ids.
    assert {kind: list(ids) for kind, ids in made.items()} == {
        "artifact": list(range(1, COUNT + 1)),
        "execution": list(range(1, COUNT)),
        "context": list(range(1, 6)),
    }
    do(
        "PutEvents",
        events=[
            {
                "artifact_id": n + 1 + (way == mlmd.Event.OUTPUT),
                "execution_id": n + 1,
                "type": way,
                "milliseconds_since_epoch": 1000 + n,
            }
            for n in range(COUNT - 1)
            for way in (mlmd.Event.INPUT, mlmd.Event.OUTPUT)
        ],
    )
    do(
        "PutAttributionsAndAssociations",
        attributions=[
            {"artifact_id": n + 1, "context_id": 1 + c} for n in range(COUNT) for c in range(3) if n % 3 >= c
        ],
        associations=[{"execution_id": n + 1, "context_id": 1 + n % 2} for n in range(COUNT - 1)],
    )
    do("PutParentContexts", parent_contexts=[{"child_id": c, "parent_id": 4 + c % 2} for c in (1, 2, 3)])


@pytest.fixture(scope="module")
def process() -> Iterator[Library]:
    with library() as found:
        yield found


class Two:
    """The library and us on one database."""

    def __init__(self, engine: str, real: Library, client: Client) -> None:
        self.engine = engine
        self.asks: tuple[Ask, Ask] = (real.call, lambda name, request: ours(client, name, request))

    def answers(self, name: str, request: Any, *fields: str) -> list[Any]:
        """The library's answer and ours: ids of the nodes, or the code."""
        found: list[Any] = []
        for ask in self.asks:
            code, _, response = ask(name, request)
            response = getattr(response, "lineage_subgraph", response)
            ids = [sorted(node.id for node in getattr(response, field)) for field in fields]
            found.append(ids if code == "OK" else code)
        return found

    def listed(self, kind: str, text: str, order: str) -> tuple[Any, Any]:
        """The answers to a filter over all nodes of a kind: ids, or the code."""
        options = {"max_result_size": 100, "filter_query": text, "order_by_field": {"field": order}}
        name = f"Get{kind.title()}s"
        found = self.answers(name, getattr(service, f"{name}Request")(options=options), f"{kind}s")
        theirs, mine = (ids if isinstance(ids, str) else ids[0] for ids in found)
        return theirs, mine


@pytest.fixture(scope="module", params=["the library", "mdstore"])
def writer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=ENGINES)
def two(
    request: pytest.FixtureRequest, writer: str, process: Library, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    """Both on a database in which one of them wrote."""
    name = f"filters_of_{writer.rsplit(maxsplit=1)[-1]}"
    where: Any = str(tmp_path_factory.mktemp("filters") / "metadata.db")
    url = f"sqlite:///{where}"
    if request.param != "sqlite":
        server = request.getfixturevalue(request.param)
        where, url = server.library_config(name), server.url(name)
    if writer == "the library":
        process.open(where)
        write(process.call)
    with mdstore.connect(url) as client:
        if writer == "mdstore":
            write(lambda method, message: ours(client, method, message))
            process.open(where)
        yield Two(request.param, process, client)


def test_lists_are_filtered_alike(two: Two) -> None:
    answers = {(kind, text): two.listed(kind, text, "CREATE_TIME") for kind, text in FILTERS}
    assert {asked: found for asked, found in answers.items() if found[0] != found[1]} == {}
    assert sum(mine != "INVALID_ARGUMENT" and mine not in ([], list(range(1, 7))) for _, mine in answers.values()) > 40


def test_what_the_library_answers_on_sqlite_only_is_answered_by_ours_everywhere(two: Two) -> None:
    for text, expected in SQLITE_ONLY.get(two.engine, {}).items():
        assert two.listed("artifact", text, "ID") == ("INTERNAL", expected), text
    for text, expected in {text: found for of in SQLITE_ONLY.values() for text, found in of.items()}.items():
        theirs, mine = two.listed("artifact", text, "ID")
        assert mine == expected, text
        assert theirs == expected or two.engine != "sqlite", text


def test_a_filter_goes_with_the_order_of_update_times(two: Two) -> None:
    theirs, mine = two.listed("artifact", "name IN ('a1', 'a4')", "LAST_UPDATE_TIME")
    assert mine == [2, 5]
    assert theirs == ("INTERNAL" if two.engine == "postgresql" else mine)


@pytest.mark.parametrize("order", ["CREATE_TIME", "ID"])
def test_lists_in_a_scope_are_filtered_alike(two: Two, order: str) -> None:
    options = {"max_result_size": 3, "filter_query": "id > 1 AND type = 'Model'", "order_by_field": {"field": order}}
    for name, fields in (
        ("GetArtifactsByContext", {"context_id": 2}),
        ("GetArtifactsByType", {"type_name": "Model"}),
        ("GetArtifactsByType", {"type_name": "Data"}),
    ):
        theirs, mine = two.answers(name, getattr(service, f"{name}Request")(**fields, options=options), "artifacts")
        assert mine == theirs, name


def test_lineage_begins_and_ends_alike(two: Two) -> None:
    different = {}
    for filters, direction in LINEAGE:
        options = {part: {"filter_query": text} for part, text in filters.items()}
        request = service.GetLineageSubgraphRequest(
            lineage_subgraph_query_options={"direction": direction, **options},
            read_mask={"paths": ["artifacts", "executions"]},
        )
        theirs, mine = two.answers("GetLineageSubgraph", request, "artifacts", "executions")
        if mine != theirs:
            different[str(filters)] = (theirs, mine)
    assert different == {}
