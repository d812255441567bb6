"""The schema as text: the file in the repository is the schema that is served."""

from pathlib import Path

from graphql import GraphQLObjectType, build_schema

from mdstore_graphql.schema import make_schema, sdl
from tests.graphql.conftest import Ask

SNAPSHOT = Path(__file__).parents[2] / "graphql" / "schema.graphql"


def test_the_snapshot_is_the_schema() -> None:
    assert SNAPSHOT.read_text() == sdl(), "stale: mdstore graphql schema > graphql/schema.graphql"


def test_the_snapshot_is_a_valid_schema_with_relays_node() -> None:
    schema = build_schema(SNAPSHOT.read_text())
    node = schema.get_type("Node")
    assert node is not None
    implementing = {
        name
        for name, found in schema.type_map.items()
        if isinstance(found, GraphQLObjectType) and node in found.interfaces
    }
    assert implementing == {"Artifact", "Execution", "Run", "Pipeline"}


def test_every_type_and_every_question_is_described() -> None:
    schema = make_schema()._schema
    undescribed = [
        name for name, found in schema.type_map.items() if not name.startswith("__") and not found.description
    ]
    assert undescribed == []
    assert schema.query_type is not None
    assert [name for name, field in schema.query_type.fields.items() if not field.description] == []


def test_introspection_is_answered(ask: Ask) -> None:
    assert ask("{ __schema { queryType { name } } }") == {"__schema": {"queryType": {"name": "Query"}}}
