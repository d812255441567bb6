"""The calls that are measured, as messages for a store that `world.build` has filled, and their goals.

Requests are made beforehand and sent as bytes. Each client has its own, spread evenly over the store.
"""

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench import world
from mdstore.wire import mlmd, service

PREFIX: Final = "/ml_metadata.MetadataStoreService/"
EACH: Final = 50
"""Different requests of one client."""

PerClients = Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One kind of call."""

    name: str
    """As it is chosen and shown."""
    method: str
    make: Callable[[int, random.Random], list[Any]]
    """The messages of one client: from the number of executions in the store and dice of its own."""
    writes: bool = False
    times_f: Mapping[str, PerClients] = field(default_factory=dict)
    """Goal: how many times as fast as F, by database and number of clients."""
    times_p: float = 1.0
    """Goal: how many times as fast as P."""

    def requests(self, executions: int, clients: int, seed: int) -> list[list[bytes]]:
        """Serialised messages, for each client."""
        return [
            [message.SerializeToString() for message in self.make(executions, random.Random(f"{seed}/{client}"))]
            for client in range(clients)
        ]


def _step(executions: int, dice: random.Random) -> service.PutExecutionRequest:
    """What a pipeline step sends when it is done: an execution, three outputs with properties, its run's context."""
    run = dice.randint(1, world.runs(executions))
    request = service.PutExecutionRequest()
    request.execution.type_id = world.CONTAINER
    request.execution.last_known_state = mlmd.Execution.COMPLETE
    properties = request.execution.custom_properties
    properties["display_name"].string_value = "train"
    properties["pod_name"].string_value = f"pod-{dice.random()}"
    properties["parent_dag_id"].int_value = (run - 1) * world.RUN + 1
    for index in range(3):
        pair = request.artifact_event_pairs.add()
        pair.artifact.type_id = world.DATASET
        pair.artifact.uri = f"s3://bucket/{uuid.UUID(int=dice.getrandbits(128))}"
        pair.artifact.properties["rows"].int_value = index
        pair.artifact.custom_properties["display_name"].string_value = f"output {index}"
        pair.event.type = mlmd.Event.OUTPUT
        pair.event.path.steps.add().key = f"output-{index}"
    request.contexts.add(type_id=world.RUN_TYPE, name=f"run-{run}")
    request.options.reuse_context_if_already_exist = True
    return request


def _puts(executions: int, dice: random.Random) -> list[Any]:
    return [_step(executions, dice) for _ in range(EACH)]


def _changed(executions: int, dice: random.Random) -> list[mlmd.Execution]:
    """Executions in turn in two states, whole, as whoever changes a state must send them."""
    found = []
    chosen = [dice.randint(1, executions) for _ in range(EACH // 2)]
    for state in (mlmd.Execution.RUNNING, mlmd.Execution.COMPLETE):
        for number in chosen:
            is_dag = (number - 1) % world.RUN == 0
            execution = mlmd.Execution(id=number, type_id=world.DAG if is_dag else world.CONTAINER)
            if is_dag:
                execution.name = f"run/{number}"
            execution.last_known_state = state
            properties = execution.custom_properties
            properties["display_name"].string_value = f"task {number % 100}"
            properties["pod_name"].string_value = f"pod-{number}"
            properties["image"].string_value = ""
            if not is_dag:
                properties["parent_dag_id"].int_value = (number - 1) // world.RUN * world.RUN + 1
            found.append(execution)
    return found


def _states(executions: int, dice: random.Random) -> list[Any]:
    return [service.PutExecutionsRequest(executions=[changed]) for changed in _changed(executions, dice)]


def _dag_states(executions: int, dice: random.Random) -> list[Any]:
    return [service.PutExecutionRequest(execution=changed) for changed in _changed(executions, dice)]


def _some(executions: int, dice: random.Random, count: int) -> list[int]:
    return [dice.randint(1, executions) for _ in range(count)]


def _one_by_id(executions: int, dice: random.Random) -> list[Any]:
    return [service.GetExecutionsByIDRequest(execution_ids=_some(executions, dice, 1)) for _ in range(EACH)]


def _hundred_by_id(executions: int, dice: random.Random) -> list[Any]:
    return [service.GetExecutionsByIDRequest(execution_ids=_some(executions, dice, 100)) for _ in range(EACH)]


def _events(executions: int, dice: random.Random) -> list[Any]:
    return [service.GetEventsByExecutionIDsRequest(execution_ids=_some(executions, dice, 100)) for _ in range(EACH)]


def _named(executions: int, dice: random.Random) -> list[Any]:
    return [
        service.GetContextByTypeAndNameRequest(type_name="system.PipelineRun", context_name=f"run-{number}")
        for number in _some(world.runs(executions), dice, EACH)
    ]


def _contexts(executions: int, dice: random.Random) -> list[Any]:
    return [service.GetContextsByExecutionRequest(execution_id=number) for number in _some(executions, dice, EACH)]


def page(context: int, order: str = "LAST_UPDATE_TIME", *, ascending: bool = False, size: int = 50) -> Any:
    """The request for the first page of a context's executions."""
    request = service.GetExecutionsByContextRequest(context_id=context)
    request.options.max_result_size = size
    request.options.order_by_field.field = mlmd.ListOperationOptions.OrderByField.Field.Value(order)
    request.options.order_by_field.is_asc = ascending
    return request


def _pages(_executions: int, dice: random.Random) -> list[Any]:
    return [page(dice.randint(1, world.PIPELINES)) for _ in range(EACH)]


def _run_pages(executions: int, dice: random.Random) -> list[Any]:
    return [page(world.run_context(number)) for number in _some(world.runs(executions), dice, EACH)]


def tasks_of(run: int, context: int) -> Any:
    """How Kubeflow Pipelines asks for the tasks of a DAG, the root of a run, in a context."""
    request = service.GetExecutionsByContextRequest(context_id=context)
    request.options.filter_query = f"custom_properties.parent_dag_id.int_value = {(run - 1) * world.RUN + 1}"
    return request


def _tasks(executions: int, dice: random.Random) -> list[Any]:
    return [tasks_of(run, world.run_context(run)) for run in _some(world.runs(executions), dice, EACH)]


def _filtered(query: Callable[[int], str]) -> Callable[[int, random.Random], list[Any]]:
    """Pages of 20 of what a filter finds, which is made from the number of an execution."""

    def make(executions: int, dice: random.Random) -> list[Any]:
        found = []
        for number in _some(executions, dice, EACH):
            request = service.GetExecutionsRequest()
            request.options.max_result_size = 20
            request.options.filter_query = query(number)
            found.append(request)
        return found

    return make


def _of_run(number: int) -> int:
    return world.run_context((number - 1) // world.RUN + 1)


def _walks(executions: int, dice: random.Random) -> list[Any]:
    """Five hops upstream of an artifact of the newer half."""
    found = []
    for number in _some(executions // 2, dice, EACH):
        request = service.GetLineageSubgraphRequest()
        options = request.lineage_subgraph_query_options
        options.starting_artifacts.filter_query = f"id = {3 * (number + executions // 2)}"
        options.max_num_hops = 5
        options.direction = mlmd.LineageSubgraphQueryOptions.UPSTREAM
        found.append(request)
    return found


def _f(one: float, few: float, many: float) -> PerClients:
    return {1: one, 16: few, 64: many}


_READ: Final = {engine: _f(1.3, 1.3, 1.3) for engine in ("sqlite", "postgresql", "mariadb")}

CALLS: Final = (
    Call(
        name="PutExecution, 3 artifacts",
        method="PutExecution",
        make=_puts,
        writes=True,
        times_f={"sqlite": _f(2.5, 4, 5), "mariadb": _f(2, 2.5, 3), "postgresql": _f(8, 12, 12)},
        times_p=1.3,
    ),
    Call(
        name="state, PutExecutions",
        method="PutExecutions",
        make=_states,
        writes=True,
        times_f={"sqlite": _f(4, 6, 5)},
    ),
    Call(
        name="state, PutExecution (KFP)",
        method="PutExecution",
        make=_dag_states,
        writes=True,
        times_f={"sqlite": _f(4, 6, 5)},
    ),
    Call(name="1 execution by id", method="GetExecutionsByID", make=_one_by_id, times_f=_READ),
    Call(name="100 executions by id", method="GetExecutionsByID", make=_hundred_by_id, times_f=_READ),
    Call(name="events of 100 executions", method="GetEventsByExecutionIDs", make=_events, times_f=_READ),
    Call(name="context by type+name", method="GetContextByTypeAndName", make=_named, times_f=_READ),
    Call(name="contexts of an execution", method="GetContextsByExecution", make=_contexts, times_f=_READ),
    Call(name="page of a pipeline, 50", method="GetExecutionsByContext", make=_pages, times_f=_READ),
    Call(name="page of a run, 20", method="GetExecutionsByContext", make=_run_pages, times_f=_READ),
    Call(name="tasks of a DAG (KFP)", method="GetExecutionsByContext", make=_tasks, times_f=_READ),
)
"""What is compared with the library."""

MORE_CALLS: Final = (
    Call(
        name="filter: one by a property",
        method="GetExecutions",
        make=_filtered(lambda number: f"custom_properties.pod_name.string_value = 'pod-{number}'"),
    ),
    Call(
        name="filter: 1 % by a property",
        method="GetExecutions",
        make=_filtered(lambda number: f"custom_properties.display_name.string_value = 'task {number % 100}'"),
    ),
    Call(
        name="filter: all by state",
        method="GetExecutions",
        make=_filtered(lambda _: "last_known_state = COMPLETE"),
    ),
    Call(
        name="filter: a run's context",
        method="GetExecutions",
        make=_filtered(lambda number: f"contexts_run.id = {_of_run(number)}"),
    ),
    Call(name="walk of 5 hops", method="GetLineageSubgraph", make=_walks),
)
"""What is measured beside them, on ours alone."""
