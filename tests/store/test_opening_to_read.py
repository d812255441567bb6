"""Opening a store's database only to read it."""

from pathlib import Path

import pytest

import mdstore
from mdstore.errors import Unavailable
from mdstore.store.reader import NodeFilter, Reader


def test_a_reader_refuses_a_database_that_is_not_there_and_does_not_make_one(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.db"

    with pytest.raises(Unavailable, match="there is no database"):
        Reader.open(f"sqlite:///{file}")

    assert not file.exists()


def test_a_reader_opens_what_a_store_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'metadata.db'}"
    mdstore.connect(url).close()

    with Reader.open(url) as reader:
        assert reader.count_artifacts(NodeFilter()) == 0
