"""Logs of known shapes."""

from mdstore.values import EventType
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


def hub(consumers: int) -> list[changes.Commit]:
    part = oracle.type_changes()
    part.artifacts.add(id=1, type_id=1)
    for number in range(1, consumers + 1):
        part.executions.add(id=number, type_id=11)
        part.events.append(oracle.event(1, number, EventType.INPUT))
        part.artifacts.add(id=number + 1, type_id=2)
        part.events.append(oracle.event(number + 1, number, EventType.OUTPUT))
    return oracle.commits_of([part])
