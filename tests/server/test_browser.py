"""grpc-web from a page in Chromium, which has the last word on what another origin may call."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import mlmd, service
from tests import needs
from tests.server.served import running
from tests.server.web import SERVICE, framed

pytestmark = pytest.mark.browser

FETCH = """async ({url, body, text}) => {
  const headers = {"content-type": text ? "application/grpc-web-text" : "application/grpc-web+proto",
                   "x-grpc-web": "1", "x-user-agent": "grpc-web-javascript/0.1", "grpc-timeout": "5000m"};
  try {
    const response = await fetch(url, {method: "POST", headers,
      body: text ? btoa(String.fromCharCode(...body)) : new Uint8Array(body)});
    const bytes = text ? Uint8Array.from(atob(await response.text()), (letter) => letter.charCodeAt(0))
                       : new Uint8Array(await response.arrayBuffer());
    return {status: response.status, bytes: [...bytes]};
  } catch (error) {
    return {error: String(error)};
  }
}"""


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page of another origin</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of an origin of its own."""
    pages = HTTPServer(("127.0.0.1", 0), _Blank)
    thread = threading.Thread(target=pages.serve_forever, daemon=True)
    thread.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.chromium(), args=["--no-sandbox"])
        found = browser.new_page()
        found.goto(f"http://127.0.0.1:{pages.server_port}/")
        yield found
        browser.close()
    pages.shutdown()
    thread.join()
    pages.server_close()


def fetched(page: Page, url: str, *, text: bool = False) -> Any:
    body = list(framed(service.GetArtifactTypesRequest().SerializeToString()))
    return page.evaluate(FETCH, {"url": f"{url}{SERVICE}GetArtifactTypes", "body": body, "text": text})


@pytest.mark.parametrize("text", [False, True])
def test_a_page_of_an_allowed_origin_reads_types(store: Store, page: Page, text: bool) -> None:
    model = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Modell ä"))
    store.call(f"{SERVICE}PutArtifactType", model)
    origin: str = page.evaluate("location.origin")
    with running(store, Plan(http_port=0, cors_origins=(origin,))) as server:
        found = fetched(page, server.http, text=text)
    assert found["status"] == 200
    content = bytes(found["bytes"])
    length = int.from_bytes(content[1:5], "big")
    types = service.GetArtifactTypesResponse.FromString(content[5 : 5 + length]).artifact_types
    assert [found.name for found in types] == ["Modell ä"]
    assert content[5 + length] == 0x80
    assert content.endswith(b"grpc-status: 0\r\n")


def test_a_page_of_any_other_origin_reads_nothing(store: Store, page: Page) -> None:
    for allowed in ((), ("https://pipelines.example",)):
        with running(store, Plan(http_port=0, cors_origins=allowed)) as server:
            assert "error" in fetched(page, server.http)
