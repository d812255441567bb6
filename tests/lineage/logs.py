"""Logs of known shapes."""

from mdstore.values import EventType, ExecutionState
from mdstore.wire import changes, mlmd
from tests.lineage import oracle


def chain(executions: int) -> list[changes.Commit]:
    """artifact 1 → execution 1 → artifact 2 → execution 2 → ..."""
    parts = [oracle.type_changes()]
    for number in range(1, executions + 1):
        part = changes.Changes()
        part.artifacts.add(id=number, type_id=1)
        part.executions.add(id=number, type_id=11)
        part.events.append(oracle.event(number, number, EventType.INPUT, "data"))
        if number > 1:
            part.events.append(oracle.event(number, number - 1, EventType.OUTPUT, "data"))
        parts.append(part)
    return oracle.commits_of(parts)


def ladder(rungs: int) -> list[changes.Commit]:
    """Two ways at each of `rungs` levels: 2 ** rungs paths from artifact 1 to artifact `rungs + 1`."""
    parts = [oracle.type_changes(), changes.Changes(artifacts=[mlmd.Artifact(id=1, type_id=1)])]
    for rung in range(1, rungs + 1):
        part = changes.Changes(artifacts=[mlmd.Artifact(id=rung + 1, type_id=1)])
        for number in (2 * rung - 1, 2 * rung):
            part.executions.add(id=number, type_id=11)
            part.events.extend(
                [
                    oracle.event(rung, number, EventType.INPUT),
                    oracle.event(rung, number, EventType.DECLARED_INPUT),
                    oracle.event(rung + 1, number, EventType.OUTPUT),
                ]
            )
        parts.append(part)
    return oracle.commits_of(parts)


def tangle(artifacts: int) -> list[changes.Commit]:
    """Every artifact from every other one, and a last one that only comes from artifact 1 and needs all its paths."""
    part = oracle.type_changes()
    for number in range(1, artifacts + 1):
        part.artifacts.add(id=number, type_id=1)
    execution_id = 0
    for one in range(1, artifacts + 1):
        for other in range(1, artifacts + 1):
            if one != other:
                execution_id += 1
                part.executions.add(id=execution_id, type_id=11)
                part.events.append(oracle.event(one, execution_id, EventType.INPUT))
                part.events.append(oracle.event(other, execution_id, EventType.OUTPUT))
    return oracle.commits_of([part])


def step(number: int, state: ExecutionState) -> mlmd.Execution:
    return mlmd.Execution(id=number, type_id=11, last_known_state=mlmd.Execution.State.ValueType(state.value))


def cache_hit() -> list[changes.Commit]:
    """artifact 1 → execution 1 → artifact 2 → execution 2 → artifact 3, and execution 3 as 1, from the cache."""
    part = oracle.type_changes()
    for number in (1, 2, 3):
        part.artifacts.add(id=number, type_id=1)
        part.executions.append(step(number, ExecutionState.CACHED if number == 3 else ExecutionState.COMPLETE))
    for used, execution_id, made in ((1, 1, 2), (2, 2, 3), (1, 3, 2)):
        part.events.append(oracle.event(used, execution_id, EventType.INPUT))
        part.events.append(oracle.event(made, execution_id, EventType.OUTPUT))
    return oracle.commits_of([part])


def cache_hit_before_its_maker() -> list[changes.Commit]:
    """artifact 1 → execution 3 → artifact 2, which becomes CACHED; then artifact 2's maker, execution 9."""
    first = oracle.type_changes()
    first.artifacts.add(id=1, type_id=1)
    first.artifacts.add(id=2, type_id=1)
    first.executions.append(step(3, ExecutionState.RUNNING))
    first.events.append(oracle.event(1, 3, EventType.INPUT))
    first.events.append(oracle.event(2, 3, EventType.OUTPUT))
    then = changes.Changes(executions=[step(3, ExecutionState.CACHED)])
    last = changes.Changes(executions=[step(9, ExecutionState.COMPLETE)], events=[oracle.event(2, 9, EventType.OUTPUT)])
    return oracle.commits_of([first, then, last])


def handed_on(type_id: int) -> list[changes.Commit]:
    """artifact 1 → execution 1 → artifact 2, which execution 2 of this type outputs too, having used artifact 3."""
    part = oracle.type_changes()
    for number in (1, 2, 3):
        part.artifacts.add(id=number, type_id=1)
    part.executions.append(step(1, ExecutionState.COMPLETE))
    part.executions.append(
        mlmd.Execution(id=2, type_id=type_id, last_known_state=mlmd.Execution.COMPLETE),
    )
    for used, execution_id in ((1, 1), (3, 2)):
        part.events.append(oracle.event(used, execution_id, EventType.INPUT))
        part.events.append(oracle.event(2, execution_id, EventType.OUTPUT))
    return oracle.commits_of([part])


def hub(consumers: int) -> list[changes.Commit]:
    part = oracle.type_changes()
    part.artifacts.add(id=1, type_id=1)
    for number in range(1, consumers + 1):
        part.executions.add(id=number, type_id=11)
        part.events.append(oracle.event(1, number, EventType.INPUT))
        part.artifacts.add(id=number + 1, type_id=2)
        part.events.append(oracle.event(number + 1, number, EventType.OUTPUT))
    return oracle.commits_of([part])
