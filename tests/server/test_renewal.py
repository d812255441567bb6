"""Certificates that are replaced while the server runs: new connections see the new ones, open ones go on."""

import copy
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

import mdstore
from mdstore.errors import NotFound, Unavailable
from mdstore.server.renewal import Certificates
from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import service
from tests.server.certificates import Files
from tests.server.process import Process, started
from tests.server.served import Server, running

GET_TYPE = service.GetContextTypeRequest(type_name="none")


class Secret:
    """A folder of PEM files as Kubernetes mounts one: a link to a folder, which is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.link = folder / "current"
        self.files = self.renew()

    def renew(self) -> Files:
        """A new authority, a new server, a new client."""
        self._count += 1
        new = self._folder / str(self._count)
        new.mkdir()
        self.files = Files(new)
        (self._folder / "next").symlink_to(new, target_is_directory=True)
        os.replace(self._folder / "next", self.link)
        return self.files

    def paths(self) -> tuple[str, str, str]:
        return str(self.link / "server.pem"), str(self.link / "server.key"), str(self.link / "ca.pem")


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path)


@pytest.fixture
def server(store: Store, secret: Secret) -> Iterator[Server]:
    with running(store, Plan(http_port=0, tls=Certificates.from_files(*secret.paths()))) as found:
        yield found


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ports(server: Server) -> tuple[int, int]:
    assert server.ports.http is not None
    return server.ports.grpc, server.ports.http


def url(server: Server, trusted: Files, client: Files) -> str:
    return f"grpcs://{server.grpc}?ca={trusted.ca}&cert={client.client}&key={client.client_key}"


def is_answered(port: int, trusted: Files, client: Files) -> bool:
    """Whether the port shows a certificate of `trusted`, and takes that of `client`."""
    context = ssl.create_default_context(cafile=trusted.ca)
    context.load_cert_chain(client.client, client.client_key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                # With TLS 1.3 the server looks at the client's certificate when the client has been told that all is
                # well. Both ports answer this: HTTP/2 by its settings, HTTP/1.1 by an error.
                secured.sendall(b"no request\r\n\r\n")
                return bool(secured.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False


def test_new_connections_see_new_certificates_and_open_ones_go_on(server: Server, secret: Secret) -> None:
    old = secret.files
    with mdstore.connect(url(server, old, old)) as kept:
        with pytest.raises(NotFound):
            kept.get_context_type(GET_TYPE)
        new = secret.renew()
        for port in ports(server):
            until(partial(is_answered, port, new, new))
            assert not is_answered(port, old, old)
            assert not is_answered(port, new, old), "the authority of clients is not the new one"
        with mdstore.connect(url(server, new, new)) as client, pytest.raises(NotFound):
            client.get_context_type(GET_TYPE)
        with mdstore.connect(url(server, new, old)) as client, pytest.raises(Unavailable):
            client.get_context_type(GET_TYPE, timeout=2)
        with pytest.raises(NotFound):
            kept.get_context_type(GET_TYPE)


def metrics(server: Server, files: Files) -> dict[str, str]:
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.client, files.client_key)
    text = httpx.get(f"{server.http.replace('http:', 'https:')}/metrics", verify=context).text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("broken", ["server.pem", "server.key", "ca.pem"])
@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_files_that_cannot_be_used_leave_the_old_ones_in_use(
    server: Server, secret: Secret, broken: str, content: bytes | None
) -> None:
    files = secret.files
    assert metrics(server, files)["mdstore_tls_files_refused"] == "0.0"
    file = secret.link / broken
    whole = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    # What the client needs is read from copies: the authority's file is one of those that are broken.
    keep = copy.copy(files)
    keep.ca = secret.link / "kept.pem"
    keep.ca.write_bytes(files.authority.cert_pem.bytes())
    until(lambda: metrics(server, keep)["mdstore_tls_files_refused"] == "1.0")
    for port in ports(server):
        assert is_answered(port, keep, keep)
    file.write_bytes(whole)
    until(lambda: metrics(server, keep)["mdstore_tls_files_refused"] == "0.0")
    assert metrics(server, keep)["mdstore_tls_renewals_total"] == "0.0"
    new = secret.renew()
    until(lambda: is_answered(server.ports.grpc, new, new))
    assert metrics(server, new)["mdstore_tls_renewals_total"] == "1.0"


def events(process: Process, name: str) -> list[dict[str, str]]:
    lines = (json.loads(line) for line in process.said().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def test_the_log_says_once_that_files_are_refused_and_why(secret: Secret, tmp_path: Path) -> None:
    certificate, key, authorities = secret.paths()
    environment = {
        "MDSTORE_TLS_CERTIFICATE": certificate,
        "MDSTORE_TLS_KEY": key,
        "MDSTORE_TLS_CLIENT_CA": authorities,
        "MDSTORE_DATABASE": f"sqlite:///{tmp_path}/metadata.db",
        "MDSTORE_GRPC_PORT": "0",
    }
    command = [sys.executable, "-P", "-m", "mdstore", "serve"]
    with started(command, tmp_path, environment) as process:
        port = int(process.address.rsplit(":", 1)[1])
        stranger = Files(tmp_path / "1")  # overwrites all of them
        (tmp_path / "1" / "server.key").write_text("no key")

        def look() -> bool:
            is_answered(port, stranger, stranger)
            return bool(events(process, "certificate_refused"))

        until(look)
        time.sleep(1.2)  # so that the files are looked at again
        look()
        (refused,) = events(process, "certificate_refused")
        assert "key of the server is no PEM" in refused["reason"]
        new = secret.renew()
        until(lambda: is_answered(port, new, new))
        assert len(events(process, "certificate_renewed")) == 1
