"""Our stores and the C++ library's on one database of PostgreSQL and MariaDB: the same schema, the same rows."""

from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.store import tables
from mdstore.wire import mlmd, service
from tests.databases.servers import PostgreSQLServer, Server
from tests.judge.library import Library, library
from tests.store.test_hostile_values import PLANES
from tests.store.writing import Nodes, call, event, get_all, node, put, put_type, value

pytestmark = pytest.mark.judge

TEXTS = (
    "plain",
    "ä ß é",
    "漢字",
    "🦆",
    *("".join(chr(point) for point in range(start, start + 64)) for start in (0x80, 0xC0)),
    PLANES,
)
"""Every byte of UTF-8 is in one of them, also those that no character of cp1252 has."""


def schema(server: Server, database: str) -> set[tuple[Any, ...]]:
    """Columns, indexes and keys of MLMD's tables."""
    if isinstance(server, PostgreSQLServer):
        questions = [
            (
                "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable, "
                "column_default FROM information_schema.columns WHERE table_schema = 'public'"
            ),
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
            (
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                "WHERE connamespace = 'public'::regnamespace"
            ),
        ]
    else:
        questions = [
            (
                "SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default, extra, "
                f"character_set_name, collation_name FROM information_schema.columns WHERE table_schema = '{database}'"
            ),
            (
                "SELECT table_name, index_name, seq_in_index, column_name, sub_part, non_unique "
                f"FROM information_schema.statistics WHERE table_schema = '{database}'"
            ),
        ]
    rows = {row for question in questions for row in server.execute(database, question)}
    added = {index.name for index in tables.MISSING_INDEXES}
    return {row for row in rows if not row[0].startswith("mdstore_") and row[1] not in added}


def test_a_new_database_is_the_librarys_but_for_what_we_add(server: Server, database: str) -> None:
    with library() as real:
        real.open(server.library_config(f"{database}_theirs"))
    mdstore.connect(server.url(database)).close()

    ours, theirs = schema(server, database), schema(server, f"{database}_theirs")

    assert len(ours) > 150
    assert ours == theirs


def write(client: Client | Library, prefix: str) -> None:
    """Nodes with texts of all kinds and values of all kinds, and every link."""

    def do(name: str, **fields: Any) -> Any:
        if isinstance(client, Client):
            return call(client, name, **fields)
        code, message, response = client.call(name, getattr(service, f"{name}Request")(**fields))
        assert code == "OK", message
        return response

    declared = {"s": mlmd.STRING, "i": mlmd.INT, "d": mlmd.DOUBLE, "b": mlmd.BOOLEAN, "p": mlmd.PROTO, "t": mlmd.STRUCT}
    proto = mlmd.Value()
    proto.proto_value.type_url = "x/y"
    proto.proto_value.value = bytes(range(256))
    given = {"i": 2**31 - 1, "d": 0.1 + 0.2, "b": True, "p": proto, "t": {"ä": [1, None, {"🦆": "x"}]}}
    if not isinstance(client, Client):
        given["d"] = 0.5  # it writes six decimals
    types = {
        kind: do(f"Put{kind.title()}Type", **{f"{kind}_type": {"name": f"{prefix} {kind} ä", "properties": declared}})
        for kind in ("artifact", "execution", "context")
    }
    ids = {}
    for kind, made in types.items():
        sent = [
            node(
                kind,
                type_id=made.type_id,
                name=f"{prefix}{number} {text}",
                external_id=f"{prefix}{kind}{number}",
                declared={**given, "s": text},
                custom={**given, "s": text, text: text},
                **({"uri": f"u/{text}"} if kind == "artifact" else {}),
            )
            for number, text in enumerate(TEXTS)
        ]
        response = do(f"Put{kind.title()}s", **{f"{kind}s": sent})
        ids[kind] = list(getattr(response, f"{kind}_ids"))
    artifact, execution, context = ids["artifact"][0], ids["execution"][0], ids["context"]
    do("PutEvents", events=[event(artifact, execution, mlmd.Event.OUTPUT, *TEXTS, 5)])
    do(
        "PutAttributionsAndAssociations",
        attributions=[{"artifact_id": artifact, "context_id": context[0]}],
        associations=[{"execution_id": execution, "context_id": context[0]}],
    )
    do("PutParentContexts", parent_contexts=[{"child_id": context[0], "parent_id": context[1]}])


def sorted_by_id(response: Any) -> Any:
    for field, nodes in response.ListFields():
        if hasattr(nodes, "sort") and "id" in field.message_type.fields_by_name:
            nodes.sort(key=lambda found: found.id)
    return response


def read_alike(client: Client, real: Library) -> None:
    """Both read the same."""
    questions = {
        "GetArtifacts": {},
        "GetExecutions": {},
        "GetContexts": {},
        "GetEventsByArtifactIDs": {"artifact_ids": range(1, 50)},
        "GetArtifactsByContext": {"context_id": 1},
        "GetExecutionsByContext": {"context_id": 1},
        "GetParentContextsByContext": {"context_id": 1},
        "GetArtifactsByURI": {"uris": [f"u/{text}" for text in TEXTS]},
        "GetArtifactTypesByID": {"type_ids": range(1, 50)},
        "GetArtifactByTypeAndName": {"type_name": "theirs artifact ä", "artifact_name": f"theirs2 {TEXTS[2]}"},
        "GetExecutionsByExternalIds": {"external_ids": ["theirsexecution1", "oursexecution2"]},
    }
    for name, fields in questions.items():
        request = getattr(service, f"{name}Request")(**fields)
        code, message, theirs = real.call(name, request)
        assert code == "OK", message
        found = client._call(f"/ml_metadata.MetadataStoreService/{name}", request, None)
        assert found.ByteSize() > 0, name
        assert sorted_by_id(found) == sorted_by_id(theirs), name


def test_each_reads_and_extends_what_the_other_wrote(server: Server, database: str) -> None:
    with library() as real:
        real.open(server.library_config(database))
        write(real, "theirs")
        with mdstore.connect(server.url(database)) as client:
            first = [commit for page in client.follow(once=True) for commit in page.commits]
            assert {commit.origin for commit in first} == {"bootstrap"}
            assert sum(len(commit.changes.artifacts) for commit in first) == len(TEXTS)
            write(client, "ours")
            read_alike(client, real)
        real.open(server.library_config(database))
        write(real, "again")
        with mdstore.connect(server.url(database)) as client:
            write(client, "too")
            read_alike(client, real)


@pytest.mark.mariadb
@pytest.mark.parametrize("charset", ["latin1", "utf8mb4", "utf8mb3"])
def test_mariadb_shares_every_text_with_the_library_in_any_character_set(mariadb: Server, charset: str) -> None:
    database = f"charset_{charset}"
    mariadb.execute("", f"CREATE DATABASE {database} CHARACTER SET {charset} COLLATE {charset}_bin")
    with library() as real:
        real.open(mariadb.library_config(database))
        write(real, "theirs")
        with mdstore.connect(mariadb.url(database)) as client:
            write(client, "ours")
            read_alike(client, real)


@pytest.mark.mariadb
def test_clean_utf8mb4_is_what_other_tools_read(mariadb: Server) -> None:
    mariadb.execute("", "CREATE DATABASE clean CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    with mdstore.connect(f"{mariadb.url('clean')}?charset=utf8mb4") as client:
        write(client, "ours")
        names = {found.name for found in get_all(client, "artifact").artifacts}

    assert names == {f"ours{number} {text}" for number, text in enumerate(TEXTS)}
    assert {name for (name,) in mariadb.execute("clean", "SELECT name FROM Artifact")} == names


def test_a_property_of_every_kind_is_stored_as_the_library_stores_it(server: Server, database: str) -> None:
    with library() as real:
        real.open(server.library_config(database))
        write(real, "theirs")
    with mdstore.connect(server.url(database)) as client:
        nodes = Nodes(client)
        (read,) = [found for found in get_all(client, "artifact").artifacts if found.name.startswith("theirs0")]
        put(client, "artifact", nodes.new("artifact", custom=dict(read.custom_properties)))
    columns = "name, is_custom_property, int_value, double_value, string_value, byte_value, proto_value, bool_value"
    theirs, ours = (
        server.execute(
            database,
            f"SELECT {columns} FROM ArtifactProperty WHERE artifact_id = {which} AND is_custom_property ORDER BY name",
        )
        for which in (read.id, nodes.artifacts[-1] + 1)
    )
    assert theirs == ours


def test_ids_go_on_when_both_write(server: Server, database: str) -> None:
    with library() as real, mdstore.connect(server.url(database)) as client:
        real.open(server.library_config(database))
        type_id = put_type(client, "execution")
        ids = []
        for turn in range(6):
            sent = [node("execution", type_id=type_id, custom={"x": value(turn)}) for _ in range(3)]
            if turn % 2:
                ids += put(client, "execution", *sent)
            else:
                code, message, response = real.call("PutExecutions", service.PutExecutionsRequest(executions=sent))
                assert code == "OK", message
                ids += response.execution_ids
    assert ids == sorted(set(ids))
    assert len(ids) == 18
