"""The same filters to the library and to us, over one database: the answers differ only where that was decided."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mdstore
from mdstore.client.client import Client
from mdstore.store.database import open_database
from mdstore.store.kinds import KINDS
from mdstore.store.transaction import Transaction
from mdstore.wire import mlmd, service
from tests.filterquery.decided import DECIDED
from tests.filterquery.example import example
from tests.filterquery.strategies import filters
from tests.judge.library import Library, library, ours

pytestmark = pytest.mark.judge

ALIKE = Path(__file__).parent / "alike.jsonl"
"""Filters that both answer alike, as `[kind, filter]`."""


class Two:
    """The library and us, each on its copy of one database."""

    def __init__(self, real: Library, client: Client) -> None:
        self.real = real
        self.client = client

    def ask(self, kind: str, text: str) -> tuple[Any, Any]:
        """The library's answer and ours: ids, or the name of a code."""
        name = f"Get{kind.title()}s"
        options = mlmd.ListOperationOptions(max_result_size=100, filter_query=text)
        request = getattr(service, f"{name}Request")(options=options)
        answers = []
        for code, _, response in (self.real.call(name, request), ours(self.client, name, request)):
            answers.append([node.id for node in getattr(response, f"{kind}s")] if code == "OK" else code)
        return answers[0], answers[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("judge")
    file = folder / "ours.db"
    with open_database(f"sqlite:///{file}") as database, database.connection() as connection:
        connection.execute("BEGIN")
        example().write(Transaction(connection, database.dialect, lambda: 0))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    theirs = shutil.copy(file, folder / "theirs.db")
    with library() as real, mdstore.connect(f"sqlite:///{file}") as client:
        real.open(str(theirs))
        yield Two(real, client)


def test_hand_made_filters_are_answered_alike(two: Two) -> None:
    filters = [json.loads(line) for line in ALIKE.read_text().splitlines()]
    assert len(filters) > 500
    for kind, text in filters:
        theirs, mine = two.ask(kind, text)
        assert mine == theirs, f"{kind}: {text}"


@pytest.mark.parametrize("reason", DECIDED)
def test_differences_are_those_that_were_decided(two: Two, reason: str) -> None:
    for kind, text, theirs, mine in DECIDED[reason]:
        assert two.ask(kind, text) == (theirs, mine), f"{kind}: {text}"


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_filters_are_answered_alike(two: Two, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    text = data.draw(filters(kind, as_library=True))
    theirs, mine = two.ask(kind.label, text)
    assert mine == theirs
