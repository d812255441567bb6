"""A fresh store for each test, in the ways of tests/store."""

from tests.store.conftest import client, each, empty, local, on_sqlite, store, url

__all__ = ["client", "each", "empty", "local", "on_sqlite", "store", "url"]
