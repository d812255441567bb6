"""Random requests, right and wrong ones, over small pools of names and ids, so that they meet.

What the library gets wrong for good (rows that it cannot read afterwards, a crash) is left out: see
`tests/store/test_quirks.py` and docs/compatibility.md.
"""

import random
from typing import Any

from mdstore.wire import mlmd, service
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


class Requests:
    """An endless source of requests."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def _often(self, share: float) -> bool:
        return self._chance.random() < share

    def _pick(self, *options: Any) -> Any:
        return self._chance.choice(options)

    def _some(self, make: Any, most: int = 3) -> list[Any]:
        return [make() for _ in range(self._chance.randint(0, most))]

    def _id(self) -> int:
        return int(self._pick(1, 2, 3, 4, 5, 6, 7, 8, 12, 20, 30, 50, -1, 0, 999))

    def _type_id(self) -> int:
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
            found.type_id = self._type_id()
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

    def _options(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._often(0.7):
            found["max_result_size"] = self._pick(1, 2, 3, 20, 100, 0, -1) if self._often(0.3) else self._pick(1, 5, 20)
        if self._often(0.6):
            # Not by update time: within a millisecond that order is a matter of chance.
            found["order_by_field"] = {"field": self._pick(1, 3, 3, 0) if self._often(0.1) else self._pick(1, 3)}
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

    def write(self) -> tuple[str, Any]:
        """The name and the request of a write."""
        kind = self._pick(*KINDS)
        letters = LETTERS[kind]
        match self._chance.randrange(13):
            case 0:
                return self._of(f"Put{letters}Type", **{f"{kind}_type": self.type_(kind)}, **self._flags())
            case 1:
                # Each name once: of a new type that is listed twice the library loses the external id.
                listed = {kind: self._some(lambda kind=kind: self.type_(kind), 2) for kind in KINDS}
                wanted = {f"{kind}_types": list({t.name: t for t in types}.values()) for kind, types in listed.items()}
                return self._of("PutTypes", **wanted, **self._flags())
            case 2 | 3 | 4 | 5:
                fields: dict[str, Any] = {f"{kind}s": self._some(lambda: self.node(kind))}
                if mask := self._mask():
                    fields["update_mask"] = {"paths": mask}
                return self._of(f"Put{letters}s", **fields)
            case 6 | 7:
                return self._of("PutEvents", events=self._some(self.event, 2))
            case 8:
                attributions = self._some(lambda: {"artifact_id": self._id(), "context_id": self._id()}, 2)
                associations = self._some(lambda: {"execution_id": self._id(), "context_id": self._id()}, 2)
                return self._of("PutAttributionsAndAssociations", attributions=attributions, associations=associations)
            case 9:
                links = self._some(lambda: {"child_id": self._id(), "parent_id": self._id()}, 2)
                return self._of("PutParentContexts", parent_contexts=links)
        fields = {
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
        return self._of("PutExecution", **fields)

    def read(self) -> tuple[str, Any]:
        """The name and the request of a read."""
        kind = self._pick(*KINDS)
        letters = LETTERS[kind]
        options = {"options": self._options()} if self._often(0.7) else {}
        version = {"type_version": self._pick("", "1", "2")} if self._often(0.3) else {}
        member = self._pick("artifact", "execution")
        external_ids = self._some(self._external_id, 4)
        return self._pick(
            lambda: self._of(f"Get{letters}Type", type_name=self._type_name(), **version),
            lambda: self._of(f"Get{letters}Types"),
            lambda: self._of(f"Get{letters}TypesByID", type_ids=self._some(self._type_id)),
            lambda: self._of(
                f"Get{letters}TypesByExternalIds", external_ids=self._some(lambda: self._pick("t1", "t2", "t3", ""))
            ),
            lambda: self._of(f"Get{letters}s", **options),
            lambda: self._of(f"Get{letters}sByID", **{f"{kind}_ids": self._some(self._id, 5)}),
            lambda: self._of(f"Get{letters}sByType", type_name=self._type_name(), **version, **options),
            lambda: self._of(
                f"Get{letters}ByTypeAndName", type_name=self._type_name(), **version, **{f"{kind}_name": self._name()}
            ),
            lambda: self._of(f"Get{letters}sByExternalIds", external_ids=external_ids),
            lambda: self._of("GetArtifactsByURI", uris=self._some(lambda: self._pick("", "s3://a", "ä", "no"))),
            lambda: self._of("GetArtifactsByID", artifact_ids=self._some(self._id), populate_artifact_types=True),
            lambda: self._of(f"GetEventsBy{LETTERS[member]}IDs", **{f"{member}_ids": self._some(self._id)}),
            lambda: self._of(f"Get{LETTERS[member]}sByContext", context_id=self._id(), **options),
            lambda: self._of(f"GetContextsBy{LETTERS[member]}", **{f"{member}_id": self._id()}),
            lambda: self._of(
                self._pick("GetParentContextsByContext", "GetChildrenContextsByContext"), context_id=self._id()
            ),
        )()  # type: ignore[no-any-return]  # each of them gives a pair

    def _of(self, name: str, **fields: Any) -> tuple[str, Any]:
        return name, getattr(service, f"{name}Request")(**fields)
