"""TLS and mutual TLS on both ports, with certificates that are made here."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import mdstore
from mdstore.errors import InvalidArgument, MetadataError, NotFound, Unavailable
from mdstore.server.renewal import Certificates
from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import service
from tests.server.certificates import Files
from tests.server.served import Server, running
from tests.server.web import SERVICE, framed

GET_TYPE = service.GetContextTypeRequest(type_name="none")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Of an authority that the server does not know."""
    return Files(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def secure(store: Store, files: Files) -> Iterator[Server]:
    with running(store, Plan(http_port=0, tls=files.tls())) as server:
        yield server


@pytest.fixture
def mutual(store: Store, files: Files) -> Iterator[Server]:
    with running(store, Plan(http_port=0, tls=files.tls(mutual=True))) as server:
        yield server


def error_of(url: str) -> MetadataError:
    with mdstore.connect(url) as client, pytest.raises(MetadataError) as caught:
        client.get_context_type(GET_TYPE, timeout=5)
    return caught.value


def test_a_client_that_knows_the_authority_is_answered(secure: Server, files: Files) -> None:
    assert isinstance(error_of(f"grpcs://{secure.grpc}?ca={files.ca}"), NotFound)


def test_a_client_that_does_not_is_not(secure: Server, strangers: Files) -> None:
    assert isinstance(error_of(f"grpcs://{secure.grpc}?ca={strangers.ca}"), Unavailable)
    assert isinstance(error_of(f"grpcs://{secure.grpc}"), Unavailable)
    assert isinstance(error_of(f"grpc://{secure.grpc}"), Unavailable)


def test_the_name_of_the_certificate_is_checked(secure: Server, files: Files) -> None:
    port = secure.ports.grpc
    assert isinstance(error_of(f"grpcs://localhost:{port}?ca={files.ca}"), Unavailable)
    assert isinstance(error_of(f"grpcs://localhost:{port}?ca={files.ca}&name=127.0.0.1"), NotFound)


def test_with_mutual_tls_a_client_shows_a_certificate_of_the_authority(
    mutual: Server, files: Files, strangers: Files
) -> None:
    url = f"grpcs://{mutual.grpc}?ca={files.ca}"
    assert isinstance(error_of(f"{url}&cert={files.client}&key={files.client_key}"), NotFound)
    assert isinstance(error_of(url), Unavailable)
    assert isinstance(error_of(f"{url}&cert={strangers.client}&key={strangers.client_key}"), Unavailable)


def test_the_http_port_has_the_same_certificate(mutual: Server, files: Files, strangers: Files) -> None:
    url = mutual.http.replace("http://", "https://")

    def get(trusted: Files, certificate: Files | None) -> httpx.Response:
        context = ssl.create_default_context(cafile=trusted.ca)
        if certificate is not None:
            context.load_cert_chain(certificate.client, certificate.client_key)
        headers = {"content-type": "application/grpc-web"}
        return httpx.post(f"{url}{SERVICE}GetContextType", content=framed(b""), headers=headers, verify=context)

    assert get(files, files).status_code == 200
    for trusted, certificate in ((strangers, files), (files, None), (files, strangers)):
        with pytest.raises(httpx.TransportError):
            get(trusted, certificate)


def test_files_that_cannot_be_used_are_named(files: Files, strangers: Files, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    text = tmp_path / "text.pem"
    text.write_text("nothing of the kind")
    server, key, ca = str(files.server), str(files.server_key), str(files.ca)
    cases = {
        ("", key, ""): "both MDSTORE_TLS_CERTIFICATE and MDSTORE_TLS_KEY",
        ("", "", ca): "both MDSTORE_TLS_CERTIFICATE and MDSTORE_TLS_KEY",
        (f"{server}.none", key, ""): "MDSTORE_TLS_CERTIFICATE: cannot read",
        (server, str(tmp_path), ""): "MDSTORE_TLS_KEY: cannot read",
        (server, key, "/none/ca.pem"): "MDSTORE_TLS_CLIENT_CA: cannot read /none/ca.pem",
        (server, str(strangers.server_key), ""): "does not belong to its certificate",
        (str(text), key, ""): "no PEM",
        (server, str(text), ""): "no PEM",
        (server, key, str(text)): "authorities of clients",
        (server, str(encrypted), ""): "key",
    }
    for given, said in cases.items():
        with pytest.raises(InvalidArgument, match=said):
            Certificates.from_files(*given)
    assert Certificates.from_files("", "", "") is None


def test_a_url_that_cannot_work_is_an_invalid_argument(files: Files) -> None:
    for url, said in {
        "grpcs://127.0.0.1": "no store's URL",
        "grpcs://:1": "no store's URL",
        "grpc://[::1": "no store's URL",
        "grpc://127.0.0.1:99999": "no store's URL",
        "grpcs://127.0.0.1:1?ca=/none.pem": "cannot read ca=/none.pem",
        f"grpcs://127.0.0.1:1?cert={files.client}": "both cert and key",
        "grpcs://127.0.0.1:1?insecure=yes": "'insecure'",
        f"grpc://127.0.0.1:1?ca={files.ca}": "grpc:// none",
        "grpcs://127.0.0.1:1?ca=/dev/null": "no PEM",
    }.items():
        with pytest.raises(InvalidArgument, match=said):
            mdstore.connect(url)
