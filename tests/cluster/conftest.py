"""The cluster, once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.cluster import driver


@pytest.fixture(scope="session")
def cluster() -> Iterator[driver.Cluster]:
    with driver.running() as running:
        yield running
