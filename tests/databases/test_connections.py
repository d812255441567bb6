"""Ways to a database that docs/databases.md names: TLS, with certificates on either side, and sockets."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import mdstore
from mdstore.errors import InvalidArgument, MetadataError
from mdstore.store.database import open_database
from mdstore.store.store import Store
from tests.databases.fixtures import ENGINES
from tests.databases.servers import MariaDBServer, PostgreSQLServer, Server
from tests.server.certificates import Files
from tests.store.served import serving
from tests.store.writing import get_one, node, put, put_type


class SecurePostgreSQL(PostgreSQLServer):
    """With TLS, which it offers and does not demand."""

    def _prepare(self) -> None:
        super()._prepare()
        self.files = Files(self.folder)
        self.files.server_key.chmod(0o600)
        if self._as:
            shutil.chown(self.files.server_key, "postgres", "postgres")

    def _command(self) -> list[str | Path]:
        files = {"cert": self.files.server, "key": self.files.server_key, "ca": self.files.ca}
        options = [part for name, file in files.items() for part in ("-c", f"ssl_{name}_file={file}")]
        return [*super()._command(), "-c", "ssl=on", *options]


class SecureMariaDB(MariaDBServer):
    """With TLS, which it offers and does not demand but of the user `shown`."""

    def _prepare(self) -> None:
        super()._prepare()
        self.files = Files(self.folder)

    def _command(self) -> list[str | Path]:
        files = {"cert": self.files.server, "key": self.files.server_key, "ca": self.files.ca}
        return [*super()._command(), *(f"--ssl-{name}={file}" for name, file in files.items())]


SERVERS = {"postgresql": SecurePostgreSQL, "mariadb": SecureMariaDB}
CHECKED = {
    "postgresql": ("sslmode=verify-full&sslrootcert={ca}", "sslmode=verify-ca&sslrootcert={ca}"),
    "mariadb": ("ssl_ca={ca}", "ssl_ca={ca}&ssl_check_hostname=false"),
}
OWN = {"postgresql": "&sslcert={cert}&sslkey={key}", "mariadb": "&ssl_cert={cert}&ssl_key={key}"}
IN_USE = {
    "postgresql": "SELECT version || coalesce(client_dn, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mariadb": "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_version'",
}


@pytest.fixture(scope="module", params=ENGINES[1:])
def secure(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server, Files]]:
    """The engine's name, a server with TLS, and the files of its authority."""
    with SERVERS[request.param](durable=False) as server:
        mdstore.connect(server.url("secure")).close()
        yield request.param, server, server.files


def protocol(url: str, engine: str) -> str:
    with open_database(url) as database, database.connection() as connection:
        cursor = connection.cursor()
        cursor.execute(IN_USE[engine])
        return str(cursor.fetchone()[0])


def test_the_servers_certificate_is_checked(
    secure: tuple[str, Server, Files], tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine, server, files = secure
    strangers = Files(tmp_path_factory.mktemp("strangers"))
    for form in CHECKED[engine]:
        assert protocol(f"{server.url('secure')}?{form.format(ca=files.ca)}", engine).startswith("TLSv1.")
        with pytest.raises(MetadataError, match="certificate"):
            mdstore.connect(f"{server.url('secure')}?{form.format(ca=strangers.ca)}")


def test_a_certificate_of_our_own_is_shown(secure: tuple[str, Server, Files]) -> None:
    engine, server, files = secure
    files.client_key.chmod(0o600)
    checked = CHECKED[engine][0].format(ca=files.ca)
    own = OWN[engine].format(cert=files.client, key=files.client_key)
    url = f"{server.url('secure')}?{checked}"
    if engine == "postgresql":
        assert "O=" not in protocol(url, engine)
        assert "O=" in protocol(url + own, engine)
        return
    server.execute(
        "",
        "CREATE USER shown@'127.0.0.1' IDENTIFIED BY 'secret' REQUIRE X509",
        "GRANT ALL ON *.* TO shown@'127.0.0.1'",
    )
    url = url.replace("mdstore:", "shown:")
    with pytest.raises(MetadataError, match="denied"):
        mdstore.connect(url)
    assert protocol(url + own, engine).startswith("TLSv1.")


def test_a_socket_of_this_machine_leads_there(secure: tuple[str, Server, Files]) -> None:
    engine, server, _ = secure
    if engine == "postgresql":
        url = f"postgresql://mdstore:secret@/secure?host={server.folder}&port={server.port}"
    else:
        server.execute(
            "",
            "CREATE USER here@localhost IDENTIFIED BY 'secret'",
            "GRANT ALL ON *.* TO here@localhost",
        )
        url = f"mysql://here:secret@/secure?unix_socket={server.folder / 'socket'}"
    with mdstore.connect(url) as client:
        assert put_type(client, "artifact") > 9


def test_a_server_reads_through_tls(secure: tuple[str, Server, Files]) -> None:
    engine, server, files = secure
    url = f"{server.url('secure')}?{CHECKED[engine][0].format(ca=files.ca)}"
    with Store.open(url) as store, serving(store) as port, mdstore.connect(f"grpc://127.0.0.1:{port}") as client:
        (execution,) = put(client, "execution", node("execution", type_id=put_type(client, "execution")))
        for _ in range(3):
            assert get_one(client, "execution", execution).id == execution


def test_a_server_that_vanishes_is_noticed_within_a_minute(server: Server, database: str) -> None:
    with open_database(server.url(database)) as opened, opened.connection() as connection:
        descriptor = connection._sock.fileno() if opened.dialect.name == "mysql" else connection.fileno()
        with socket.socket(fileno=os.dup(descriptor)) as found:
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, between, times, unanswered_ms = (
                found.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            )
    assert idle + between * times <= 60
    assert unanswered_ms <= 60_000


@pytest.mark.mariadb
def test_a_charset_in_which_quotes_cannot_be_told_is_refused(mariadb: Server) -> None:
    url = mariadb.url("charsets")
    for charset in ("utf8mb4", "utf8mb3", "latin1"):
        open_database(f"{url}?charset={charset}").close()
    for charset in ("gbk", "sjis", "big5", "ucs2"):
        with pytest.raises(InvalidArgument, match=f"charset={charset}"):
            open_database(f"{url}?charset={charset}")
