"""One sequence of calls to a store of the library's and one of ours, each in a file.

`python -m tests.store.side_by_side FIRST COUNT` plays the sequences of so many seeds, to look for differences beyond
those that the tests play.
"""

import argparse
import base64
import json
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct

import mdstore
from mdstore.client.client import Client
from mdstore.store import tables
from mdstore.store.properties import STRUCT_PREFIX
from mdstore.store.store import Store
from mdstore.wire import mlmd, service
from tests.judge.library import Both, Library, library
from tests.store import decided
from tests.store.hostile import Hostility
from tests.store.log import of_log, of_tables
from tests.store.requests import LETTERS, READS, WRITES, Requests
from tests.store.served import serving
from tests.store.writing import KINDS

ROUNDS = 8
WRITES_OF_A_ROUND = 48
"""Beside one call of each of the 52 RPCs."""
LISTS = (
    *(f"Get{letters}s{of}" for letters in LETTERS.values() for of in ("", "", "ByType")),
    *("GetArtifactsByContext", "GetExecutionsByContext"),
)
LISTS_OF_A_ROUND = 15
"""Reads of lists at the end of each round, when all times are told."""


class SideBySide(Both):
    """The library and ours on files."""

    def __init__(self, library: Library, client: Client, files: tuple[Path, Path]) -> None:
        super().__init__(library, client)
        self.files = files
        self.set_aside = 0
        self._times_are_told = False

    def tell(self, name: str, request: Any) -> tuple[Any, Any]:
        """Call both; what only one of them may take is told to copies of them."""
        if name.startswith("Put"):
            self._times_are_told = False
        if not decided.aside(name, request):
            # Which of two updates was the later one is a matter of chance within a millisecond.
            by_chance = not self._times_are_told and _by_update_time(request)
            codes_only = by_chance or decided.cut_off(name, request)
            return self.call(name, request, known=self._known(name), codes_only=codes_only)
        self.set_aside += 1
        with self._copies() as copies:
            found = copies.call(name, request, known=self._known(name))
        for code, count in copies.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
            self.of_rpcs.setdefault(name, Counter())[code] += count
        self.calls += 1
        return found

    @staticmethod
    def _known(name: str) -> Any:
        return lambda theirs, ours, request: decided.known(name, request, theirs, ours)

    @contextmanager
    def _copies(self) -> Iterator[Both]:
        with tempfile.TemporaryDirectory(dir=self.files[0].parent) as folder:
            files = [Path(folder) / file.name for file in self.files]
            for file, copy in zip(self.files, files, strict=True):
                with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
            self.library.open(str(files[0]))
            try:
                with mdstore.connect(f"sqlite:///{files[1]}") as client:
                    yield Both(self.library, client)
            finally:
                self.library.open(str(self.files[0]))

    def tell_times(self) -> None:
        """Give all nodes and events times that say their order, the same to both: so lists in it can be compared.

        Create times come in pairs and grow with the ids, update times go in an order of their own and have no pairs:
        where it is otherwise the library's pages skip rows, or have no end.
        """
        for file in self.files:
            with closing(sqlite3.connect(file, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                for kind in LETTERS.values():
                    database.execute(
                        f"UPDATE {kind} SET create_time_since_epoch = 1000 + id / 2, "
                        "last_update_time_since_epoch = 2000 + (id * 7919) % 10007"
                    )
                database.execute(
                    "UPDATE Event SET milliseconds_since_epoch = 5000 + id WHERE milliseconds_since_epoch > 1e12"
                )
                database.execute("COMMIT")
        self._times_are_told = True

    def rows(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All rows of the library's database and of ours: table -> rows, without times and the ids of links."""
        theirs, ours = (rows(file) for file in self.files)
        return theirs, ours


def _by_update_time(request: Any) -> bool:
    order_by = mlmd.ListOperationOptions.OrderByField
    has_options = "options" in request.DESCRIPTOR.fields_by_name and hasattr(request.options, "order_by_field")
    return has_options and request.options.order_by_field.field == order_by.LAST_UPDATE_TIME


_TIMES = {"create_time_since_epoch", "last_update_time_since_epoch", "milliseconds_since_epoch"}


def rows(file: Path) -> dict[str, Any]:
    """Table -> its rows, values with their types in SQLite; without times, and of links without their own ids."""
    with closing(sqlite3.connect(file)) as database:
        found = {}
        for table in tables.MLMD_TABLES:
            own = {"id"} if table.name in {"Attribution", "Association"} else set()
            columns = [column.name for column in table.columns if column.name not in _TIMES | own]
            listed = ", ".join(f"{name}, typeof({name})" for name in columns)
            listed_rows = database.execute(f"SELECT {listed} FROM {table.name}").fetchall()
            found[table.name] = sorted((tuple(map(unspaced, row)) for row in listed_rows), key=repr)
        return found


def unspaced(stored: Any) -> Any:
    """A value as both mean it: JSON without the spaces that one of them writes, a Struct in one order of its fields."""
    if isinstance(stored, str) and stored[:1] == "{":
        return json.dumps(_without_numbers(json.loads(stored)), sort_keys=True)
    if isinstance(stored, str) and stored.startswith(STRUCT_PREFIX):
        found = Struct.FromString(base64.b64decode(stored.removeprefix(STRUCT_PREFIX), validate=True))
        found.DiscardUnknownFields()
        return STRUCT_PREFIX + base64.b64encode(found.SerializeToString(deterministic=True)).decode("ascii")
    return stored


def _without_numbers(found: Any) -> Any:
    """JSON of a struct type, whose only numbers are those of enums that have no such one; ours leaves them out."""
    if isinstance(found, dict):
        return {name: _without_numbers(value) for name, value in found.items() if type(value) is not int}
    return [_without_numbers(value) for value in found] if isinstance(found, list) else found


@contextmanager
def side_by_side(library: Library, *, served: bool) -> Iterator[SideBySide]:
    """Two empty stores; ours in this process, or served over gRPC."""
    # In memory where there is a file system for it: the library waits for the disk at every write.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="mdstore-") as folder:
        files = (Path(folder) / "library.db", Path(folder) / "ours.db")
        library.open(str(files[0]))
        url = f"sqlite:///{files[1]}"
        if not served:
            with mdstore.connect(url) as client:
                yield SideBySide(library, client, files)
            return
        with Store.open(url) as store, serving(store) as port, mdstore.connect(f"grpc://127.0.0.1:{port}") as client:
            yield SideBySide(library, client, files)


def play(both: SideBySide, seed: int, *, rounds: int = ROUNDS) -> None:
    """A sequence of random calls, every third of them changed in places; compares all answers and rows."""
    chance = random.Random(seed)
    requests, hostility = Requests(seed), Hostility(seed)
    _begin(both)
    for _ in range(rounds):
        requests.times_are_told = False
        names = [*READS, *dict.fromkeys(WRITES), *(chance.choice(WRITES) for _ in range(WRITES_OF_A_ROUND))]
        chance.shuffle(names)
        for name in names:
            _, request = requests.request(name)
            both.tell(name, hostility.change(request) if chance.random() < 0.35 else request)
        both.tell_times()
        requests.times_are_told = True
        for _ in range(LISTS_OF_A_ROUND):
            _page_through(both, *requests.request(chance.choice(LISTS)))
        compare_all(both)


def _begin(both: SideBySide) -> None:
    """Types and nodes for random requests to meet, and each read by a key once with one that is there."""

    def tell(name: str, **fields: Any) -> None:
        both.tell(name, getattr(service, f"{name}Request")(**fields))

    declared = {"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "t": mlmd.STRUCT, "b": mlmd.BOOLEAN}
    for kind in KINDS:
        letters = LETTERS[kind]
        for name in "TU":
            wanted = {"name": name, "properties": declared, "external_id": f"{kind} {name}"}
            tell(f"Put{letters}Type", **{f"{kind}_type": wanted})
        few = [
            {"type_id": 10 + 2 * KINDS.index(kind), "name": str(number), "external_id": f"first {number}"}
            for number in range(3)
        ]
        tell(f"Put{letters}s", **{f"{kind}s": few})
        tell(f"Get{letters}Type", type_name="T")
        tell(f"Get{letters}TypesByExternalIds", external_ids=[f"{kind} T", "no"])
        tell(f"Get{letters}sByExternalIds", external_ids=["first 0", "no"])
    tell(
        "PutLineageSubgraph",
        executions=[{"id": 1, "type_id": 12}],
        artifacts=[{"id": 1, "type_id": 10}],
        contexts=[{"id": 1, "type_id": 14, "name": "0"}],
        event_edges=[{"execution_index": 0, "artifact_index": 0, "event": {"type": "OUTPUT"}}],
    )
    tell("PutParentContexts", parent_contexts=[{"child_id": 1, "parent_id": 2}])
    tell("GetContextsByArtifact", artifact_id=1)
    tell("GetContextsByExecution", execution_id=1)
    tell("GetLineageSubgraph", lineage_subgraph_query_options={"starting_artifacts": {"filter_query": "id = 1"}})


def _page_through(both: SideBySide, name: str, request: Any) -> None:
    """A page and some of those behind it: the tokens are the same, since the times are."""
    for _ in range(4):
        _, answer = both.tell(name, request)
        token = answer.next_page_token
        if not token:
            return
        request.options.next_page_token = token


def compare_all(both: SideBySide) -> None:
    """All that the readers show, and all rows of MLMD's tables."""
    for letters in LETTERS.values():
        both.tell(f"Get{letters}s", getattr(service, f"Get{letters}sRequest")())
        both.tell(f"Get{letters}Types", getattr(service, f"Get{letters}TypesRequest")())
    everyone = range(-1, 400)
    both.tell("GetEventsByExecutionIDs", service.GetEventsByExecutionIDsRequest(execution_ids=everyone))
    _compare_log(both)
    theirs, ours = both.rows()
    for table in theirs:
        left, right = (set(map(repr, found[table])) for found in (theirs, ours))
        assert left == right, f"{table}, library: {sorted(left - right)[:5]}, ours: {sorted(right - left)[:5]}"
        assert len(ours[table]) == len(theirs[table]), table


def _compare_log(both: SideBySide) -> None:
    """What our change log adds up to is what is there, but for the times that were told behind its back."""
    logged, there = of_log(both.client), of_tables(both.client)
    for found in (logged, there):
        for field, entries in found.items():
            for entry in entries.values() if isinstance(entries, dict) else entries:
                for time in _TIMES:
                    if time in entry.DESCRIPTOR.fields_by_name:
                        entry.ClearField(time)
                for values in ("properties", "custom_properties"):
                    for value in getattr(entry, values, {}).values():
                        # SQLite has one zero, and no sign for it.
                        if not isinstance(value, int) and value.HasField("double_value") and value.double_value == 0:
                            value.double_value = 0.0
                if field.endswith("_types"):
                    # The database does not tell a text that is empty from one that is not there.
                    for name in ("version", "description", "external_id"):
                        if not getattr(entry, name):
                            entry.ClearField(name)
    for field in logged:
        if isinstance(logged[field], dict):
            images = ((logged[field].get(key), there[field].get(key)) for key in logged[field] | there[field])
            differing = [f"the log: {log}the tables: {table}" for log, table in images if not _are_same(log, table)]
            assert not differing, differing[0]
        else:
            assert Counter(map(str, logged[field])) == Counter(map(str, there[field])), field


def _are_same(image: Any, other: Any) -> bool:
    # As bytes too, since a number that is none is not equal to itself.
    return bool(image == other) or (
        None not in (image, other)
        and image.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    )


def main() -> None:
    """Play the sequences of many seeds, and say which of them fail."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    wanted = parser.parse_args()
    totals: dict[str, Counter[str]] = {}
    failures = 0
    calls = 0
    for seed in range(wanted.first, wanted.first + wanted.count):
        with library() as real, side_by_side(real, served=False) as both:
            try:
                play(both, seed)
            except AssertionError as error:
                failures += 1
                print(f"seed {seed}: {str(error)[:3000]}\n", flush=True)
            calls += both.calls
            for name, codes in both.of_rpcs.items():
                totals.setdefault(name, Counter()).update(codes)
    for name, codes in sorted(totals.items()):
        print(name, dict(codes))
    print(f"{calls} calls, {failures} of {wanted.count} seeds differ")


if __name__ == "__main__":
    main()
