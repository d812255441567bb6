"""`docs/server.md` names what there is."""

import re
import ssl
from pathlib import Path

import httpx

from mdstore.server.gflags import DEFAULTS
from mdstore.server.serving import Plan
from mdstore.server.settings import ServeSettings
from mdstore.store.store import Store
from tests.server.certificates import Files
from tests.server.served import running

PAGES = {name: (Path(__file__).parents[2] / "docs" / name).read_text() for name in ("server.md", "deploy-kfp.md")}


def test_every_variable_on_the_pages_is_a_setting() -> None:
    known = {f"MDSTORE_{name.upper()}" for name in ServeSettings.model_fields}
    for name, page in PAGES.items():
        assert set(re.findall(r"MDSTORE_[A-Z_]*[A-Z]", page)) <= known, name


def test_every_metric_has_its_row_and_every_row_its_metric(store: Store, tmp_path: Path) -> None:
    files = Files(tmp_path)
    trusted = ssl.create_default_context(cafile=files.ca)
    with running(store, Plan(http_port=0, tls=files.tls())) as server:
        text = httpx.get(f"{server.http.replace('http:', 'https:')}/metrics", verify=trusted).text
    exposed = set(re.findall(r"^# TYPE (mdstore_\w+)", text, re.MULTILINE))
    table = "\n".join(line for line in PAGES["server.md"].splitlines() if line.startswith("| `mdstore_"))
    assert set(re.findall(r"mdstore_\w+", table)) == exposed


def test_every_flag_on_the_page_is_one_of_the_originals() -> None:
    section = PAGES["server.md"].partition("## In the place of")[2]
    for flag in re.findall(r"`--([a-z_]+)", section):
        assert flag in DEFAULTS or flag in {"v", "logtostderr"}
