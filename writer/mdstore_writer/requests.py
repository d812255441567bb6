"""Records as the messages of `mdstore.v1.Ingestion`, cut into requests of bounded size."""

from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf import json_format, struct_pb2

from mdstore.values import JSON, EventType
from mdstore.wire import ingestion, mlmd
from mdstore_writer.records import ArtifactRecord, ContextRecord, EventRecord, ExecutionKey, ExecutionRecord

REQUEST_RECORDS: Final = 2_000
"""Records in one request. One request is one transaction: large ones save commits, and hold others up."""
ORIGIN: Final = "writer"
_INT32: Final = range(-(2**31), 2**31)

ArtifactKey = str | int
"""An external id, or the id of an artifact that has none."""


def value(given: JSON) -> mlmd.Value:
    """A property's value: text, numbers and truth as they are, lists and objects as KFP wraps them."""
    message = mlmd.Value()
    match given:
        case bool():
            message.bool_value = given
        case int() if given in _INT32:
            message.int_value = given
        case int() | float():
            message.double_value = given
        case str():
            # MLMD's readers would cut the text off there, so the store takes no NUL.
            message.string_value = given.replace("\0", "\N{REPLACEMENT CHARACTER}")
        case dict():
            json_format.ParseDict(given, message.struct_value)
        case list():
            json_format.ParseDict({"list": given}, message.struct_value)
        case None:
            message.struct_value.fields["null"].null_value = struct_pb2.NULL_VALUE
    return message


def _values(given: Mapping[str, JSON]) -> dict[str, mlmd.Value]:
    return {name: value(entry) for name, entry in given.items()}


def context_key(key: tuple[str, str]) -> ingestion.NodeKey:
    """A context by its type and name."""
    return ingestion.NodeKey(type=key[0], name=key[1])


def artifact_key(key: ArtifactKey) -> ingestion.NodeKey:
    """An artifact by its external id, or its id."""
    return ingestion.NodeKey(id=key) if isinstance(key, int) else ingestion.NodeKey(external_id=key)


def execution_key(key: ExecutionKey, type_name: str = "") -> ingestion.NodeKey:
    """An execution by what `ExecutionKey` says decides."""
    if key.store_id is not None:
        # Without the external id: the launcher writes the whole node again and would take it away.
        return ingestion.NodeKey(id=key.store_id, in_context_type="system.PipelineRun", in_context_name=key.run or "")
    message = ingestion.NodeKey(external_id=key.external_id)
    if key.name is not None and type_name:
        message.type, message.name = type_name, key.name
    return message


class Requests:
    """Collects records and gives them as requests, in an order in which each finds what it names.

    Of one run: contexts, artifacts, executions, then what links them. A request that is full goes before the next
    record; those that come later may name what is in it, since requests are sent in order.
    """

    def __init__(self) -> None:
        self._full: list[ingestion.IngestRequest] = []
        self._current = ingestion.IngestRequest(origin=ORIGIN)
        self._count = 0

    def _room(self) -> ingestion.IngestRequest:
        if self._count >= REQUEST_RECORDS:
            self._full.append(self._current)
            self._current, self._count = ingestion.IngestRequest(origin=ORIGIN), 0
        self._count += 1
        return self._current

    def take(self) -> Iterator[ingestion.IngestRequest]:
        """The requests collected so far; afterwards there are none."""
        full, current, count = self._full, self._current, self._count
        self.__init__()  # type: ignore[misc]  # the same as a new one
        yield from full
        if count:
            yield current

    def context(self, record: ContextRecord) -> None:
        """A context and its properties."""
        self._room().contexts.add(
            key=context_key(record.key),
            type=record.type,
            name=record.name,
            custom_properties=_values(record.properties),
            default_custom_properties=_values(record.default_properties),
        )

    def parent(self, child: tuple[str, str], parent: tuple[str, str]) -> None:
        """A run is of a pipeline."""
        self._room().parents.add(context=context_key(parent), member=context_key(child))

    def artifact(self, record: ArtifactRecord, defaults: Mapping[str, JSON] | None = None) -> None:
        """An artifact and its properties."""
        self._room().artifacts.add(
            key=artifact_key(record.external_id),
            type=record.type,
            uri=record.uri,
            state=record.state,
            custom_properties=_values(record.properties),
            default_custom_properties=_values(defaults or {}),
        )

    def execution(self, record: ExecutionRecord) -> None:
        """An execution, its state and its properties."""
        message = self._room().executions.add(
            key=execution_key(record.key, record.type),
            type=record.type,
            name=record.key.name or "",
            overrides_final_state=record.is_last_word,
            custom_properties=_values(record.properties),
            default_custom_properties=_values(record.default_properties),
        )
        if record.state is not None:
            message.state = record.state

    def event(
        self,
        execution: ExecutionKey,
        artifact: ArtifactKey,
        type: EventType,  # noqa: A002 (MLMD's word)
        *,
        path: str,
        index: int | None,
        at_ms: int,
    ) -> None:
        """One use of an artifact by an execution."""
        steps = [mlmd.Event.Path.Step(key=path)]
        if index:
            steps.append(mlmd.Event.Path.Step(index=index))
        self._room().events.add(
            execution=execution_key(execution, "system.DAGExecution" if execution.name else ""),
            artifact=artifact_key(artifact),
            type=type,
            path=mlmd.Event.Path(steps=steps),
            time_ms=at_ms,
        )

    def event_record(self, record: EventRecord) -> None:
        """An event of an artifact that is known by its external id."""
        self.event(
            record.execution,
            record.artifact,
            record.type,
            path=record.path,
            index=record.index,
            at_ms=record.at_ms,
        )

    def attribution(self, artifact: ArtifactKey, context: tuple[str, str]) -> None:
        """An artifact belongs to a run or a pipeline."""
        self._room().attributions.add(context=context_key(context), member=artifact_key(artifact))

    def association(self, execution: ExecutionKey, context: tuple[str, str]) -> None:
        """An execution belongs to a run or a pipeline."""
        member = execution_key(execution, "system.DAGExecution" if execution.name else "")
        self._room().associations.add(context=context_key(context), member=member)

    def document(self, collection: str, key: str, content: bytes | None) -> None:
        """Keep something beside the metadata; None takes it away."""
        self._room().documents.add(collection=collection, key=key, value=content or b"", deleted=content is None)
