"""The real library and ours write the same nodes of one database at the same time, and neither loses anything."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.wire import mlmd, service
from tests.databases.fixtures import ENGINES
from tests.databases.servers import Server
from tests.databases.test_reliability import check_log
from tests.judge.library import Library, library, ours
from tests.store.log import followed, of_log, of_tables
from tests.store.writing import Nodes, get_all
from tests.v1.test_reconcile import normalised

pytestmark = pytest.mark.judge

STEPS: Final = 40
TRIES: Final = 50
"""Of a call that is answered with ABORTED; a client that gives up has lost nothing, but shows nothing either."""
Ask = Callable[[str, Any], tuple[str, str, Any]]


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | dict[str, Any]]:
    """A database that is not there yet: its URL, and what the library calls it."""
    if request.param == "sqlite":
        file = tmp_path / "metadata.db"
        return f"sqlite:///{file}", str(file)
    server: Server = request.getfixturevalue(request.param)
    return server.url("two_writers"), server.library_config("two_writers")


@pytest.fixture
def both(place: tuple[str, str | dict[str, Any]]) -> Iterator[tuple[Client, Library]]:
    """Ours and the library, on one database."""
    url, name = place
    with mdstore.connect(url) as client, library() as real:
        real.open(name)
        yield client, real


class Writer:
    """One of the two: writes what the other writes at the same time, and remembers what it was told."""

    def __init__(self, name: str, ask: Ask, nodes: Nodes, together: threading.Barrier) -> None:
        self.name = name
        self._ask = ask
        self._nodes = nodes
        self._together = together
        self.codes: dict[str, Counter[str]] = {}
        self.made: dict[str, tuple[int, list[int], list[int]]] = {}
        """Name of an execution that was acknowledged -> its id, and those of its artifacts and contexts."""
        self.won: set[tuple[str, str]] = set()
        """What was there for one of the two, and this one got."""
        self.noted: dict[int, int] = {}
        """Execution -> the last number that was written into it."""

    def call(self, name: str, **fields: Any) -> tuple[str, Any]:
        request = getattr(service, f"{name}Request")(**fields)
        for _ in range(TRIES):
            code, message, response = self._ask(name, request)
            if code != "ABORTED":
                break
        self.codes.setdefault(name, Counter())[code if code == "OK" else f"{code}: {message}"] += 1
        return code, response

    def work(self) -> None:
        """All steps, each begun together with the other writer's."""
        for step in range(STEPS):
            self._together.wait(120)
            self._put_execution(step)
            self._note(self._nodes.executions[step % 3], step)
            self._take("PutArtifacts", "artifact", f"external{step}")
            self._take("PutContexts", "context", f"context{step}")
            self.call(
                "PutAttributionsAndAssociations",
                attributions=[{"artifact_id": self._nodes.artifacts[step % 3], "context_id": self._nodes.contexts[0]}],
                associations=[
                    {"execution_id": self._nodes.executions[step % 2], "context_id": self._nodes.contexts[1]}
                ],
            )

    def _put_execution(self, step: int) -> None:
        types = self._nodes.types
        name = f"{self.name}{step}"
        code, response = self.call(
            "PutExecution",
            execution={"type_id": types["execution"], "name": name},
            artifact_event_pairs=[
                {"artifact": {"type_id": types["artifact"], "external_id": name}, "event": {"type": "OUTPUT"}},
                {"event": {"type": "INPUT", "artifact_id": self._nodes.artifacts[0]}},
            ],
            contexts=[{"type_id": types["context"], "name": f"shared{step // 2}"}],
            options={"reuse_context_if_already_exist": True},
        )
        if code == "OK":
            self.made[name] = response.execution_id, list(response.artifact_ids), list(response.context_ids)

    def _note(self, execution: int, step: int) -> None:
        """A property of its own in an execution that the other one changes too."""
        noted = mlmd.Execution(id=execution)
        noted.custom_properties[self.name].int_value = step
        code, _ = self.call(
            "PutExecutions", executions=[noted], update_mask={"paths": [f"custom_properties.{self.name}"]}
        )
        if code == "OK":
            self.noted[execution] = step

    def _take(self, rpc: str, kind: str, key: str) -> None:
        wanted = {"type_id": self._nodes.types[kind], ("name" if kind == "context" else "external_id"): key}
        code, _ = self.call(rpc, **{f"{kind}s": [wanted]})
        if code == "OK":
            self.won.add((kind, key))


def test_nothing_is_lost_or_doubled_and_the_log_has_it_all(
    both: tuple[Client, Library], place: tuple[str, str | dict[str, Any]]
) -> None:
    client, real = both
    nodes = Nodes(client)
    together = threading.Barrier(2)
    mine = Writer("ours", lambda name, request: ours(client, name, request), nodes, together)
    theirs = Writer("theirs", real.call, nodes, together)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(writer.work) for writer in (mine, theirs)]:
            done.result()

    # Ours is never at a loss. The library has its own troubles with races, and what it then refuses is not written.
    for rpc in ("PutExecution", "PutExecutions", "PutAttributionsAndAssociations"):
        assert set(mine.codes[rpc]) == {"OK"}, mine.codes
    refused = {code.partition(":")[0] for codes in mine.codes.values() for code in codes}
    assert refused == {"OK", "ALREADY_EXISTS"}, mine.codes
    assert len(theirs.made) > STEPS / 4, theirs.codes
    _acknowledged_writes_are_there_once(client, [mine, theirs])
    for _ in range(2):
        client._store.reconcile()  # type: ignore[attr-defined]  # a client in this process
    assert {"external", "mlmd"} <= {commit.origin for commit in followed(client)}
    logged = normalised(of_log(client))
    for links in ("attributions", "associations"):
        # A link that both make at once is there once, and may be told twice: adding it again changes nothing.
        logged[links] = [link for n, link in enumerate(logged[links]) if link not in logged[links][:n]]
    there = normalised(of_tables(client))
    for key, stored in there["executions"].items():
        image = logged["executions"].get(key, mlmd.Execution())
        at_once = stored.last_update_time_since_epoch == image.last_update_time_since_epoch
        if at_once and theirs.name in stored.custom_properties:
            # As docs/change-log.md says: theirs within the millisecond of ours looks like one update with it.
            image.custom_properties[theirs.name].CopyFrom(stored.custom_properties[theirs.name])
    assert logged == there
    check_log(place[0])


def _acknowledged_writes_are_there_once(client: Client, writers: list[Writer]) -> None:
    artifacts, executions, contexts = (
        getattr(get_all(client, kind), f"{kind}s") for kind in ("artifact", "execution", "context")
    )
    by_id = {found.id: found for found in executions}
    made = {name: ids for writer in writers for name, ids in writer.made.items()}
    assert Counter(found.name for found in executions if found.name) == Counter(list(made))
    for name, (execution, its_artifacts, its_contexts) in made.items():
        assert by_id[execution].name == name
        events = client.get_events_by_execution_ids(
            service.GetEventsByExecutionIDsRequest(execution_ids=[execution])
        ).events
        assert Counter(event.artifact_id for event in events) == Counter(its_artifacts)
        associated = client.get_contexts_by_execution(service.GetContextsByExecutionRequest(execution_id=execution))
        assert [found.id for found in associated.contexts] == its_contexts
    # Each was there for one, and one has got it: of contexts that both put things into too, there is one.
    won = Counter(taken for writer in writers for taken in writer.won)
    external_ids = Counter(found.external_id for found in artifacts if found.external_id)
    names = Counter(found.name for found in contexts)
    wanted = {("artifact", f"external{step}") for step in range(STEPS)}
    wanted |= {("context", f"context{step}") for step in range(STEPS)}
    assert won == Counter(wanted)
    assert external_ids == Counter([*(key for kind, key in wanted if kind == "artifact"), *made])
    assert set(names.values()) == {1}
    for writer in writers:
        for execution, step in writer.noted.items():
            assert by_id[execution].custom_properties[writer.name].int_value == step
