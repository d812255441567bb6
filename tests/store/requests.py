"""Random requests of every RPC, right and wrong ones, over small pools of names and ids, so that they meet.

What the library gets wrong for good (rows that it cannot read afterwards, a crash) is left out here; `hostile.py` puts
it in.
"""

import random
import re
from typing import Any

from mdstore.wire import POOL, mlmd, service
from tests.store.writing import KINDS, STATE, properties

LETTERS = {"artifact": "Artifact", "execution": "Execution", "context": "Context"}
DECLARED = {"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "t": mlmd.STRUCT, "b": mlmd.BOOLEAN}
VALUES: dict[str, list[Any]] = {
    "i": [0, 1, -5, 2**40],
    "d": [0.5, -1.25, 3.0],
    "s": ["", "x", "ä 漢 🦆", 'it\'s "quoted" \\ %'],
    "t": [{}, {"a": [1, None, {"b": "c"}]}],
    "b": [True, False],
}

_LETTER_NAMES = tuple(LETTERS.values())
WRITES = (
    *(f"Put{letters}Type" for letters in _LETTER_NAMES),
    *("PutTypes", "PutTypes", "PutTypes"),
    *(f"Put{letters}s" for letters in _LETTER_NAMES for _ in range(4)),
    *("PutEvents",) * 6,
    *("PutAttributionsAndAssociations",) * 3,
    *("PutParentContexts",) * 3,
    *("PutExecution",) * 9,
    *("PutLineageSubgraph",) * 3,
)
"""The RPCs that write, the more important ones more often."""
READS = tuple(
    sorted(
        method.name
        for method in POOL.FindServiceByName("ml_metadata.MetadataStoreService").methods
        if method.name not in WRITES
    )
)
"""The RPCs that read."""

FILTERS: dict[str, tuple[str, ...]] = {
    "all": (
        "id > 3", "id IN (1, 2, 3, 7)", "id BETWEEN 2 AND 9", "type = 'T'", "type != 'U'", "type IN ('T', 'V')",
        "name = 'a'", "name IS NULL", "name IS NOT NULL", "name LIKE '%n%'", "external_id = 'e1'",
        "external_id IS NULL", "external_id LIKE 'e%'", "type_id = 10",
        "create_time_since_epoch > 0", "properties.i.int_value > 0",
        "properties.s.string_value = 'x'", "properties.d.double_value < 1.0", "properties.b.bool_value = TRUE",
        "properties.i.int_value IS NULL", "custom_properties.`c.x`.int_value = 1",
        "custom_properties.`c.y`.string_value LIKE '%s%'", "custom_properties.`c.z`.bool_value IS NOT NULL",
        "length(name) > 1", "id * 2 = 8", "CASE WHEN id > 4 THEN name = 'b' ELSE TRUE END", "TRUE", "1 = 2",
        "name = 'ä'", "lower(name) = 'a'", "abs(id - 5) < 3", "coalesce(name, '') = ''",
    ),
    "artifact": (
        "uri = 's3://a'", "uri != ''", "state = LIVE", "state IN (PENDING, LIVE)", "state IS NULL", "state != DELETED",
        "contexts_c.name = 'a'", "contexts_c.type = 'T' AND contexts_c.id > 1",
        "contexts_c.id = 1 AND contexts_d.id = 2",
        "events_0.type = INPUT", "events_0.type IN (OUTPUT, DECLARED_OUTPUT)", "events_0.execution_id < 4",
        "events_x.milliseconds_since_epoch < 10",
    ),
    "execution": (
        "last_known_state = COMPLETE", "last_known_state IN (RUNNING, CACHED)", "last_known_state IS NULL",
        "contexts_c.name = 'a'", "contexts_c.type = 'T' AND contexts_c.id > 1", "events_0.type = OUTPUT",
        "events_0.artifact_id IN (1, 2)", "events_x.milliseconds_since_epoch = 5",
    ),
    "context": (
        "parent_contexts_p.name = 'a'", "parent_contexts_p.id < 4", "child_contexts_c.type = 'T'",
        "child_contexts_c.id > 1",
        "artifacts_a.uri = 's3://a'", "artifacts_a.id < 5", "artifacts_a.state = LIVE",
        "executions_e.last_known_state = COMPLETE", "executions_e.id IN (1, 2, 3)",
    ),
}  # fmt: skip
"""Conditions on nodes of every kind and of each, over the names that requests use."""
FILTERS_BY_TIME = (
    "last_update_time_since_epoch > 2100", "last_update_time_since_epoch < 4000 OR id = 1",
    "create_time_since_epoch BETWEEN 1001 AND 1003", "create_time_since_epoch = 1002",
    "create_time_since_epoch < last_update_time_since_epoch - 2000",
)  # fmt: skip
"""Conditions on nodes whose times are told."""
NO_FILTERS = (
    "id", "1", "NULL", "'text'", "name =", "'", "name == 'x'", "no_such = 1", "id IN ()", "properties.i = 1", ";",
    "contexts_c IS NULL", "id = 'x'", "name = 1", "(" * 40, "id = 1 id = 2", "SELECT 1", "properties.i.no_value = 1",
    "state = NO_SUCH", "last_known_state = 'x'", "count(id) = 1", "id = ?", "id = @p", "`", "\\", "--",
    "unknown(id) = 1",
)  # fmt: skip
"""What is no filter of any kind."""


class Requests:
    """An endless source of requests."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.times_are_told = False
        """Whether all nodes have times that both stores were given, and so may be compared in their order."""

    def _often(self, share: float) -> bool:
        return self._chance.random() < share

    def _pick(self, *options: Any) -> Any:
        return self._chance.choice(options)

    def _some(self, make: Any, most: int = 3) -> list[Any]:
        return [make() for _ in range(self._chance.randint(0, most))]

    def _id(self) -> int:
        return int(self._chance.randint(1, 8) if self._often(0.85) else self._pick(12, 20, 30, 50, -1, 0, 999))

    def _type_id(self, kind: str | None = None) -> int:
        if kind is not None and self._often(0.8):
            # The two that are there from the beginning.
            return 10 + 2 * KINDS.index(kind) + self._chance.randrange(2)
        return int(self._chance.randint(10, 24)) if self._often(0.95) else int(self._pick(0, 1, 6, 999))

    def _name(self) -> str:
        return str(self._pick("", "a", "b", "c", "d", "n" * 200, "ä", "A", "a "))

    def _type_name(self) -> str:
        return str(self._pick("T", "U", "V", "W", "mlmd.Model", "mlmd.Train", "no"))

    def _external_id(self) -> str:
        return f"e{self._chance.randrange(40)}" if self._often(0.95) else ""

    def _declared(self) -> dict[str, Any]:
        if self._often(0.05):
            return {self._pick("undeclared", "i"): self._pick(1, "x")}
        return {name: self._pick(*VALUES[name]) for name in DECLARED if self._often(0.3)}

    def _custom(self) -> dict[str, Any]:
        # Never a name that is declared too: those two clobber each other in the library.
        return {f"c.{name}": self._pick(*VALUES[self._pick(*VALUES)]) for name in "xyz" if self._often(0.3)}

    def type_(self, kind: str) -> Any:
        found = getattr(mlmd, f"{LETTERS[kind]}Type")()
        if self._often(0.98):
            found.name = self._type_name() if self._often(0.98) else ""
        for name, declared in DECLARED.items():
            if self._often(0.9):
                found.properties[name] = declared if self._often(0.98) else self._pick(mlmd.INT, mlmd.UNKNOWN)
        if self._often(0.2):
            found.version = self._pick("", "1", "2")
        if self._often(0.2):
            found.description = self._pick("", "what it is")
        if self._often(0.1):
            found.external_id = self._pick("t1", "t2", "t3", "t4")
        if self._often(0.1):
            found.base_type = self._pick(0, 1, 2) if kind != "context" else 0
        if kind == "execution" and self._often(0.2):
            found.input_type.dict.properties["in"].simple.name = "T"
            found.output_type.union_type.candidates.add().none.SetInParent()
        return found

    def node(self, kind: str, *, there: float = 0.4) -> Any:
        found = getattr(mlmd, LETTERS[kind])(
            properties=properties(self._declared()), custom_properties=properties(self._custom())
        )
        if self._often(there):
            found.id = self._id()
        if (not found.HasField("id") and self._often(0.97)) or self._often(0.2):
            found.type_id = self._type_id(kind)
        if self._often(0.95 if kind == "context" else 0.3):
            found.name = self._name()
        if self._often(0.3):
            found.external_id = self._external_id()
        if kind == "artifact" and self._often(0.6):
            found.uri = self._pick("", "s3://a", "s3://b", "ä")
        if kind != "context" and self._often(0.6):
            setattr(found, STATE[kind], self._chance.randrange(7))
        if self._often(0.1):
            found.type = "ignored"
            found.create_time_since_epoch = 5
        return found

    def event(self) -> mlmd.Event:
        found = mlmd.Event()
        if self._often(0.97):
            found.artifact_id = self._id()
        if self._often(0.97):
            found.execution_id = self._id()
        if self._often(0.97):
            found.type = self._chance.randrange(8)
        if self._often(0.5):
            found.milliseconds_since_epoch = self._pick(0, -1, 5, 123456)
        for _ in range(self._chance.choice([0, 0, 1, 3])):
            found.path.steps.add(**self._pick({"index": 3}, {"index": -1}, {"key": "k"}, {"key": ""}, {}))
        return found

    def _flags(self) -> dict[str, bool]:
        found = {"can_add_fields": self._often(0.6), "can_omit_fields": self._often(0.6)}
        if self._often(0.02):
            found["all_fields_match"] = False
        return found

    def _mask(self) -> list[str]:
        paths = [
            *("uri", "state", "last_known_state", "external_id", "name", "type_id", "nothing", "uri.x"),
            *("properties", "properties.i", "properties.s", "properties."),
            *("custom_properties", "custom_properties.c.x", "custom_properties.c.y"),
        ]
        return self._chance.sample(paths, self._chance.randint(1, 4)) if self._often(0.4) else []

    def _options(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._often(0.4):
            found["filter_query"] = self.filter(kind)
        if self._often(0.7):
            found["max_result_size"] = self._pick(1, 2, 3, 20, 100, 0, -1) if self._often(0.3) else self._pick(1, 5, 20)
        if self._often(0.6):
            # By update time only where the times are told: within a millisecond that order is a matter of chance.
            fields = (1, 2, 3) if self.times_are_told else (1, 3)
            found["order_by_field"] = {"field": self._pick(*fields, 0) if self._often(0.1) else self._pick(*fields)}
            found["order_by_field"]["is_asc"] = self._often(0.5)
        if self._often(0.03):
            found["next_page_token"] = self._pick("!!!", "a", "CgQ")
        return found

    def pair(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._often(0.8):
            found["artifact"] = self.node("artifact", there=0.5)
        if self._often(0.85) or not found:
            event = self.event()
            if "artifact" in found or self._often(0.03):
                event.ClearField("artifact_id")
            else:
                # An event for an artifact that is not there would stay in the library for ever.
                event.artifact_id = self._pick(1, 2)
            if self._often(0.97):
                event.ClearField("execution_id")
            found["event"] = event
        return found

    def _edge(self, artifacts: int, executions: int) -> dict[str, Any]:
        """An edge between listed nodes, or stored ones where one of 1 and 2 may stand for all that are there."""
        event = self.event()
        found: dict[str, Any] = {"event": event}
        for label, count in (("artifact", artifacts), ("execution", executions)):
            if count and self._often(0.8):
                found[f"{label}_index"] = self._chance.randrange(count) if self._often(0.97) else self._pick(-1, 99)
                if self._often(0.95):
                    event.ClearField(f"{label}_id")
            else:
                setattr(event, f"{label}_id", self._pick(1, 2))
        if self._often(0.02):
            del found["event"]
        return found

    def filter(self, kind: str) -> str:
        """A filter, which is sometimes none."""
        if self._often(0.06):
            return str(self._pick(*NO_FILTERS))
        by_time = FILTERS_BY_TIME if self.times_are_told else ()
        # Each once: the library refuses a filter that compares a state twice in the same words.
        conditions = self._chance.sample([*FILTERS["all"], *FILTERS[kind], *by_time], self._pick(1, 1, 2, 4))
        return self._filter_of(conditions)

    def _filter_of(self, conditions: list[str]) -> str:
        if len(conditions) == 1:
            return self._pick("{}", "{}", "NOT ({})").format(*conditions)
        left, right = self._filter_of(conditions[:1]), self._filter_of(conditions[1:])
        return str(self._pick(f"({left} AND {right})", f"({left}) OR ({right})"))

    def _lineage(self) -> dict[str, Any]:
        kind = self._pick("artifact", "execution")
        found: dict[str, Any] = {f"starting_{kind}s": {"filter_query": self._pick("id > 0", self.filter(kind))}}
        if self._often(0.02):
            found = self._pick({}, {f"starting_{kind}s": {}})
        if self._often(0.6):
            found["max_num_hops"] = self._pick(0, 1, 2, 3, 7, 100, 101, -1)
        if self._often(0.7):
            found["direction"] = self._chance.randrange(4)
        for ending in ("artifact", "execution"):
            if self._often(0.25):
                found[f"ending_{ending}s"] = {
                    "filter_query": self._pick("", self.filter(ending), self.filter(ending)),
                    "include_ending_nodes": self._often(0.5),
                }
        fields: dict[str, Any] = {"lineage_subgraph_query_options": found}
        if self._often(0.3):
            parts = [field.name for field in mlmd.LineageGraph.DESCRIPTOR.fields]
            fields["read_mask"] = {"paths": self._chance.sample([*parts, "nothing", "artifacts.id"], 3)}
        return fields

    def write(self) -> tuple[str, Any]:
        """The name and the request of a write."""
        return self.request(self._pick(*WRITES))

    def read(self) -> tuple[str, Any]:
        """The name and the request of a read."""
        return self.request(self._pick(*READS))

    def request(self, name: str) -> tuple[str, Any]:
        """The name and a request of this RPC."""
        fields = self._fields(name)
        if self._often(0.1):
            fields["transaction_options"] = {"tag": self._pick("", "a", "漢")}
        return name, getattr(service, f"{name}Request")(**fields)

    def _fields(self, name: str) -> dict[str, Any]:
        kind = next((kind for kind in KINDS if LETTERS[kind] in name.partition("By")[0]), self._pick(*KINDS))
        options = {"options": self._options(kind)} if self._often(0.7) else {}
        version = {"type_version": self._pick("", "1", "2")} if self._often(0.3) else {}
        alone = re.search(
            "Events|Lineage|Parent|Children|Associations|PutExecution$|ContextsBy(Artifact|Execution)$", name
        )
        match name if alone else name.replace(LETTERS[kind], "*", 1):
            case "Put*Type":
                return {f"{kind}_type": self.type_(kind), **self._flags()}
            case "PutTypes":
                # Each name once: of a new type that is listed twice the library loses the external id.
                listed = {kind: self._some(lambda kind=kind: self.type_(kind), 2) for kind in KINDS}
                wanted = {f"{kind}_types": list({t.name: t for t in types}.values()) for kind, types in listed.items()}
                return {**wanted, **self._flags()}
            case "Put*s":
                fields: dict[str, Any] = {f"{kind}s": self._some(lambda: self.node(kind))}
                if mask := self._mask():
                    fields["update_mask"] = {"paths": mask}
                return fields
            case "PutEvents":
                return {"events": self._some(self.event, 2)}
            case "PutAttributionsAndAssociations":
                return {
                    "attributions": self._some(lambda: {"artifact_id": self._id(), "context_id": self._id()}, 2),
                    "associations": self._some(lambda: {"execution_id": self._id(), "context_id": self._id()}, 2),
                }
            case "PutParentContexts":
                return {"parent_contexts": self._some(lambda: {"child_id": self._id(), "parent_id": self._id()}, 2)}
            case "PutExecution":
                return self._put_execution()
            case "PutLineageSubgraph":
                return self._put_lineage_subgraph()
            case "Get*Type":
                return {"type_name": self._type_name(), **version}
            case "Get*TypesByID":
                return {"type_ids": self._some(self._type_id)}
            case "Get*TypesByExternalIds":
                return {"external_ids": self._some(lambda: self._pick("t1", "t2", "t3", "t4", "t1", "t2", ""))}
            case "Get*s":
                return options
            case "Get*sByID":
                populated = {"populate_artifact_types": True} if kind == "artifact" and self._often(0.5) else {}
                return {f"{kind}_ids": self._some(self._id, 5), **populated}
            case "Get*sByType":
                return {"type_name": self._type_name(), **version, **options}
            case "Get*ByTypeAndName":
                return {"type_name": self._type_name(), **version, f"{kind}_name": self._name()}
            case "Get*sByExternalIds":
                return {"external_ids": self._some(self._external_id, 4)}
            case "Get*sByURI":
                return {"uris": self._some(lambda: self._pick("", "s3://a", "ä", "no"))}
            case "Get*sByContext":
                return {"context_id": self._id(), **options}
            case "GetLineageSubgraph":
                return self._lineage()
            case "GetParentContextsByContexts" | "GetChildrenContextsByContexts":
                return {"context_ids": self._some(self._id, 5)}
            case "GetParentContextsByContext" | "GetChildrenContextsByContext":
                return {"context_id": self._id()}
            case "GetContextsByArtifact" | "GetContextsByExecution":
                return {f"{name.removeprefix('GetContextsBy').lower()}_id": self._id()}
            case "GetEventsByArtifactIDs" | "GetEventsByExecutionIDs":
                member = name.removeprefix("GetEventsBy").removesuffix("IDs").lower()
                return {f"{member}_ids": self._some(self._id)}
            case "GetLineageGraph":
                return {"options": {"artifacts_options": self._options("artifact"), "max_node_size": self._pick(1, 20)}}
            case "Get*Types":
                return {}
        raise ValueError(name)

    def _put_execution(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "artifact_event_pairs": self._some(self.pair),
            "contexts": self._some(lambda: self.node("context", there=0.2), 2),
        }
        if self._often(0.97):
            fields["execution"] = self.node("execution")
        if self._often(0.7):
            fields["options"] = {
                "reuse_context_if_already_exist": self._often(0.6),
                "reuse_artifact_if_already_exist_by_external_id": self._often(0.5),
                "force_update_time": self._often(0.3),
                "force_reuse_context": self._often(0.3),
            }
        return fields

    def _put_lineage_subgraph(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for kind, most in (("artifact", 2), ("execution", 2), ("context", 1)):
            found[f"{kind}s"] = self._some(lambda kind=kind: self.node(kind, there=0.15), most)
            for node in found[f"{kind}s"]:
                if not node.HasField("type_id") and self._often(0.95):
                    node.type_id = self._type_id(kind)
        counts = len(found["artifacts"]), len(found["executions"])
        found["event_edges"] = self._some(lambda: self._edge(*counts), 2)
        if self._often(0.7):
            found["options"] = {
                "reuse_context_if_already_exist": self._often(0.6),
                "reuse_artifact_if_already_exist_by_external_id": self._often(0.5),
            }
        return found
