"""The examples of docs/client.md run, and record what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client.retry import Retry
from mdstore.values import ExecutionState
from tests.client.reading import stored

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(port: int, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"grpc://127.0.0.1:{port}"
    monkeypatch.setenv("MDSTORE_STORE", url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "fit": lambda *_, **given: given.get("rate", 0.5),
        "save": lambda _, path: Path(path).write_text("weights"),
    }
    first, second, third, calls = BLOCKS
    for block in (first, second, third):
        exec(compile(block.replace("grpc://localhost:8080", url), "docs/client.md", "exec"), names)
    names["prepare"]("monday")
    # The page reads a database with one client and asyncio side by side, and leaves the function around them out.
    body = calls.replace("grpc://localhost:8080", url).replace("        ...\n", "        break\n")
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    exec(
        compile(f"import asyncio\nasync def page():\n{indented}\nasyncio.run(page())", "docs/client.md", "exec"), names
    )

    with mdstore.connect(url) as client:
        found = stored(client)
    assert {e.custom_properties["display_name"] for e in found.executions.values()} == {
        "train", "prepare", "explore", "search", "trial",
    }  # fmt: skip
    assert {e.state for e in found.executions.values()} == {ExecutionState.COMPLETE}
    assert found.named("train").custom_properties["parameters"] == {"rate": 0.1}
    models = [artifact for artifact in found.artifacts.values() if artifact.type == "system.Model"]
    assert [model.custom_properties["framework"] for model in models] == ["sklearn"]


def test_the_page_says_the_defaults() -> None:
    default = Retry()

    assert default.tries == 5
    assert "Five calls at most, with pauses of 0.1, 0.2, 0.4, 0.8 s" in PAGE
    assert [round(default.first_pause_s * 2**n, 1) for n in range(default.tries - 1)] == [0.1, 0.2, 0.4, 0.8]
