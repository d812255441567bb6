"""The tree of errors and its one table of protocol codes."""

from collections.abc import Iterator

import grpc
import pytest

from mdstore import errors
from mdstore.errors import STATUS, MetadataError, from_grpc


def subclasses(of: type[MetadataError]) -> Iterator[type[MetadataError]]:
    for cls in of.__subclasses__():
        yield cls
        yield from subclasses(cls)


def ours() -> set[type[MetadataError]]:
    return {cls for cls in subclasses(MetadataError) if cls.__module__ == errors.__name__}


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    assert ours() == STATUS.keys()


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__ is not None
    assert all(cls.__name__ in errors.__doc__ for cls in ours())


def test_rows_agree_with_themselves() -> None:
    for cls, status in STATUS.items():
        assert status.code == status.grpc.name
        assert status.code.replace("_", "").lower() == cls.__name__.lower()
        assert 400 <= status.http < 600


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_of_grpc_has_an_error(code: grpc.StatusCode) -> None:
    found = from_grpc(code, "text")
    assert str(found) == "text"
    assert STATUS[type(found)].grpc is (code if code is not grpc.StatusCode.UNKNOWN else grpc.StatusCode.INTERNAL)
