"""For all tests: fast ones first, those that need a server only where it is, and in the strict form nothing skipped."""

import signal
from collections.abc import Generator

import pytest

from tests import needs
from tests.databases.fixtures import empty_stores, mariadb, postgresql

__all__ = ["empty_stores", "mariadb", "postgresql"]

# A shell's background job ignores SIGINT, and so would all that tests start, which then could not show how it ends.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow ones last, and leave out what cannot run here unless the form is strict."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is not None for name in ("cluster", "slow", "judge")])
    if needs.STRICT:
        return
    wanted = {name for item in items for name in needs.NEEDS if item.get_closest_marker(name)}
    absent = {name for name in wanted if needs.NEEDS[name]() is not None}
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_report_header() -> list[str]:
    return [
        f"{name}: {'to fail' if needs.STRICT else 'left out'}, {reason}" for name, reason in needs.missing().items()
    ]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """In the strict form a test whose need is not met is here still, and fails."""
    for name, reason in needs.NEEDS.items():
        if item.get_closest_marker(name) and (missing := reason()):
            pytest.fail(f"{name}: {missing}; script/servers {name} gets it", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _skips_fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _skips_fail(report)
    return report


def _skips_fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    if needs.STRICT and report.outcome == "skipped":
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"{report.nodeid} was skipped, which the strict form does not allow: {reason}"
