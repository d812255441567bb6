"""The library's own suite, as its wheel brings it, against `mdstore serve` on each database."""

import os
import subprocess
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests import needs
from tests.databases.fixtures import ENGINES
from tests.databases.servers import Server
from tests.up.processes import mdstore

pytestmark = pytest.mark.judge

REPAIRS: Final = {
    # Over gRPC four tests of the wheel fail before they call anything: they leave out an argument of a function of
    # their own, or find it at `self.self`. Each call is given the argument, and nothing else is touched.
    "_get_metadata_store(grpc_max_receive_message_length=100)": (
        "_get_metadata_store(self.cli_args, grpc_max_receive_message_length=100)"
    ),
    "_get_metadata_store(self.self.cli_args, grpc_max_receive_message_length=1)": (
        "_get_metadata_store(self.cli_args, grpc_max_receive_message_length=1)"
    ),
    "_get_metadata_store(grpc_http2_max_ping_strikes=0)": (
        "_get_metadata_store(self.cli_args, grpc_http2_max_ping_strikes=0)"
    ),
    "_get_metadata_store(grpc_client_timeout_sec=0)": "_get_metadata_store(self.cli_args, grpc_client_timeout_sec=0)",
}
PASSED: Final = 106
# It expects these to fail, with any store.
EXPECTED_FAILURES: Final = 2


def repaired(suite: str) -> str:
    """The suite with those four calls repaired; a wheel that does not hold each of them once is another one."""
    for broken, whole in REPAIRS.items():
        assert suite.count(broken) == 1, f"{broken} is in the suite {suite.count(broken)} times"
        suite = suite.replace(broken, whole)
    return suite


def outcomes(report: Path) -> dict[str, str]:
    """Name -> passed, failed or skipped (which is what an expected failure is to JUnit's form)."""
    found = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        failed = kinds & {"failure", "error"}
        found[case.attrib["name"]] = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
    return found


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'metadata.db'}"
    server: Server = request.getfixturevalue(request.param)
    return server.url("upstream_suite")


def test_the_librarys_own_suite_passes(url: str, tmp_path: Path) -> None:
    python = needs.judge_python()
    (folder,) = python.parents[1].glob("lib/python*/site-packages/ml_metadata/metadata_store")
    # The folder's name is not the package's, or pytest would import this one in place of the library.
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "metadata_store_test.py").write_text(repaired((folder / "metadata_store_test.py").read_text()))
    (suite / "conftest.py").write_text((folder / "conftest.py").read_text())
    report = tmp_path / "report.xml"
    with mdstore("serve", "--database", url, "--grpc-port", "0") as server:
        port = int(server.wait_for(r"127\.0\.0\.1:(\d+)")[1])
        done = subprocess.run(
            [
                python, "-m", "pytest", suite / "metadata_store_test.py", "-q", "-p", "no:cacheprovider",
                "-c", os.devnull, "--rootdir", suite, f"--junit-xml={report}",
                "--use_grpc_backend", "--grpc_host=127.0.0.1", f"--grpc_port={port}",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    found = list(outcomes(report).values())
    assert "failed" not in found, done.stdout[-20_000:]
    assert (found.count("passed"), found.count("skipped")) == (PASSED, EXPECTED_FAILURES)
