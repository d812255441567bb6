"""Short ways to write and read a few nodes: each takes a client and says what it leaves out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mdstore.client.client import Client
from mdstore.wire import mlmd, service

T = TypeVar("T")

KINDS = ("artifact", "execution", "context")
_LETTERS = {"artifact": "Artifact", "execution": "Execution", "context": "Context"}
STATE = {"artifact": "state", "execution": "last_known_state"}


def message(of: Callable[..., T], **fields: Any) -> T:
    """A message from dicts, which the stubs' constructors do not know."""
    return of(**fields)


def value(of: Any) -> mlmd.Value:
    """A property's value, of the kind that the Python value has."""
    match of:
        case bool():
            return mlmd.Value(bool_value=of)
        case int():
            return mlmd.Value(int_value=of)
        case float():
            return mlmd.Value(double_value=of)
        case str():
            return mlmd.Value(string_value=of)
        case dict():
            found = mlmd.Value()
            found.struct_value.update(of)
            found.struct_value.SetInParent()
            return found
    raise TypeError(type(of).__name__)


def properties(of: Mapping[str, Any]) -> dict[str, mlmd.Value]:
    return {name: given if isinstance(given, mlmd.Value) else value(given) for name, given in of.items()}


def type_of(kind: str, name: str, declared: Mapping[str, int] | None = None, **fields: Any) -> Any:
    return getattr(mlmd, f"{_LETTERS[kind]}Type")(name=name, properties=declared or {}, **fields)


def node(
    kind: str, custom: Mapping[str, Any] | None = None, declared: Mapping[str, Any] | None = None, **fields: Any
) -> Any:
    """A node message: declared and custom properties from plain values."""
    return getattr(mlmd, _LETTERS[kind])(
        **fields, properties=properties(declared or {}), custom_properties=properties(custom or {})
    )


def call(client: Client, name: str, **fields: Any) -> Any:
    """The response of an RPC, called by its name."""
    request = getattr(service, f"{name}Request")(**fields)
    return client._call(f"/ml_metadata.MetadataStoreService/{name}", request, None)


def put_type(
    client: Client, kind: str, name: str = "T", declared: Mapping[str, int] | None = None, **fields: Any
) -> int:
    """The type's id; `fields` are the request's flags."""
    response = call(client, f"Put{_LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, name, declared)}, **fields)
    return int(response.type_id)


def put(client: Client, kind: str, *nodes: Any, **fields: Any) -> list[int]:
    """The nodes' ids; `fields` are the request's options and mask."""
    if "mask" in fields:
        fields["update_mask"] = {"paths": fields.pop("mask")}
    return list(getattr(call(client, f"Put{_LETTERS[kind]}s", **{f"{kind}s": nodes}, **fields), f"{kind}_ids"))


def get(client: Client, kind: str, ids: Iterable[int]) -> list[Any]:
    """The nodes of these ids that there are."""
    return list(getattr(call(client, f"Get{_LETTERS[kind]}sByID", **{f"{kind}_ids": list(ids)}), f"{kind}s"))


def get_one(client: Client, kind: str, node_id: int) -> Any:
    (found,) = get(client, kind, [node_id])
    return found


def get_all(client: Client, kind: str, **options: Any) -> Any:
    """The response of `Get*K*s`; options are those of a list, none given means no options."""
    return call(client, f"Get{_LETTERS[kind]}s", **({"options": options} if options else {}))


def get_type(client: Client, kind: str, name: str = "T", **fields: Any) -> Any:
    return getattr(call(client, f"Get{_LETTERS[kind]}Type", type_name=name, **fields), f"{kind}_type")


def event(
    artifact: int, execution: int, kind: Any = mlmd.Event.INPUT, *steps: str | int, at_ms: int | None = None
) -> mlmd.Event:
    found = mlmd.Event(artifact_id=artifact, execution_id=execution, type=kind)
    for step in steps:
        found.path.steps.add(**({"key": step} if isinstance(step, str) else {"index": step}))
    if at_ms is not None:
        found.milliseconds_since_epoch = at_ms
    return found


def events_of(client: Client, kind: str, *ids: int) -> list[mlmd.Event]:
    return list(call(client, f"GetEventsBy{_LETTERS[kind]}IDs", **{f"{kind}_ids": ids}).events)


class Nodes:
    """One type of each kind, and three nodes of each."""

    def __init__(self, client: Client) -> None:
        self.types = {kind: put_type(client, kind) for kind in KINDS}
        self.artifacts = put(client, "artifact", *(self.new("artifact") for _ in range(3)))
        self.executions = put(client, "execution", *(self.new("execution") for _ in range(3)))
        self.contexts = put(client, "context", *(self.new("context", name=f"c{n}") for n in range(3)))

    def new(self, kind: str, **fields: Any) -> Any:
        return node(kind, type_id=self.types[kind], **fields)
