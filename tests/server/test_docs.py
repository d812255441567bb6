"""`docs/server.md` names what there is."""

import re
from pathlib import Path

import httpx

from mdstore.server.gflags import DEFAULTS
from mdstore.server.settings import ServeSettings
from mdstore.wire import service
from tests.server.served import Server
from tests.server.web import call

PAGES = {name: (Path(__file__).parents[2] / "docs" / name).read_text() for name in ("server.md", "deploy-kfp.md")}


def test_every_variable_on_the_pages_is_a_setting() -> None:
    known = {f"MDSTORE_{name.upper()}" for name in ServeSettings.model_fields}
    for name, page in PAGES.items():
        assert set(re.findall(r"MDSTORE_[A-Z_]*[A-Z]", page)) <= known, name


def test_every_metric_has_its_row_and_every_row_its_metric(server: Server) -> None:
    call(server.http, "GetContextTypes", service.GetContextTypesRequest())
    exposed = set(re.findall(r"^# TYPE (mdstore_\w+)", httpx.get(f"{server.http}/metrics").text, re.MULTILINE))
    table = "\n".join(line for line in PAGES["server.md"].splitlines() if line.startswith("| `mdstore_"))
    assert set(re.findall(r"mdstore_\w+", table)) == exposed


def test_every_flag_on_the_page_is_one_of_the_originals() -> None:
    section = PAGES["server.md"].partition("## In the place of")[2]
    for flag in re.findall(r"`--([a-z_]+)", section):
        assert flag in DEFAULTS or flag in {"v", "logtostderr"}
