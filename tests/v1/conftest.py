"""A fresh store for each test, in the ways of tests/store."""

from tests.store.conftest import client, empty, local, store, url

__all__ = ["client", "empty", "local", "store", "url"]
