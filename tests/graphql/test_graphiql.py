"""The page for people: everything on it comes from this server, and it works in a browser that reaches nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mdstore_graphql import graphiql
from tests import needs
from tests.graphql.processes import Server, serving

OFFLINE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="module")
def server(urls: tuple[str, str]) -> Iterator[Server]:
    with serving(*urls) as started:
        yield started


def test_the_page_and_all_it_names_are_served(server: Server) -> None:
    page = httpx.get(server.url, headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(named) == 6
    for path in named:
        asset = httpx.get(server.url.replace("/graphql", path))
        assert asset.status_code == 200
        assert asset.content
        assert b"sourceMappingURL=" not in asset.content
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_no_style_loads_from_elsewhere() -> None:
    for sheet in graphiql.ASSETS.glob("*.css"):
        text = sheet.read_text()
        assert "@import" not in text
        assert [url for url in re.findall(r"url\(\s*[\"']?([^\"')]*)", text) if not url.startswith("data:")] == []


def test_the_licenses_are_beside_what_they_are_about() -> None:
    text = (graphiql.ASSETS / "LICENSES.txt").read_text()
    assert text.count("MIT License") == 3
    assert "GraphQL Contributors" in text


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=needs.chromium(),
            headless=True,
            args=OFFLINE,
            viewport={"width": 1280, "height": 800},
        )
        yield browser.new_page()
        browser.close()


@pytest.mark.browser
def test_a_person_asks_in_the_browser(server: Server, page: Page) -> None:
    troubles: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: troubles.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    page.on("request", lambda request: asked.add(request.url))

    page.goto(server.url)
    page.locator(".graphiql-execute-button").click()
    response = page.locator(".graphiql-response")
    expect(response).to_contain_text('"totalCount": 4')
    expect(response).to_contain_text("fraud")

    # Their own question, typed.
    editor = page.locator(".graphiql-editor .CodeMirror").first
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.type('{ usedBy(artifact: "nonsense") { truncated } }')
    page.keyboard.press("Control+Enter")
    expect(response).to_contain_text("INVALID_ARGUMENT")

    # The schema in the documentation explorer, which shows that introspection was answered.
    page.get_by_role("button", name="Show Documentation Explorer").click()
    expect(page.locator(".graphiql-doc-explorer")).to_contain_text("Query")

    assert troubles == []
    assert {url for url in asked if not url.startswith(("data:", server.url.removesuffix("/graphql")))} == set()
