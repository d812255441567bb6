"""The original server's flags, configuration file and environment, as deployments have them."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from google.protobuf import text_format

import mdstore
from mdstore.errors import InvalidArgument, MetadataError, Unavailable, Unimplemented
from mdstore.server import gflags
from mdstore.server.original import start
from mdstore.wire import mlmd, service
from tests.ports import free_port
from tests.server.process import started
from tests.server.served import Server
from tests.up.processes import until

SERVER = [sys.executable, "-c", "from mdstore.cli.original import main; main()"]

# As Kubeflow Pipelines' metadata-grpc-deployment has it.
KUBEFLOW = [
    "--grpc_port=8080",
    "--mysql_config_database=metadb",
    "--mysql_config_host=mysql",
    "--mysql_config_port=3306",
    "--mysql_config_user=root",
    "--mysql_config_password=",
    "--enable_database_upgrade=true",
    "--grpc_channel_arguments=grpc.max_metadata_size=16384",
]


def test_kubeflows_own_command_line() -> None:
    found = start(KUBEFLOW, {})
    assert found.database == "mysql://root@mysql:3306/metadb"
    assert found.grpc_port == 8080
    assert found.upgrade
    assert found.channel_arguments == (("grpc.max_metadata_size", 16384),)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--grpc_port=1"], {"grpc_port": 1}),
        (["-grpc_port=1"], {"grpc_port": 1}),
        (["--grpc_port", "1"], {"grpc_port": 1}),
        (["-grpc_port", "1"], {"grpc_port": 1}),
        (["--downgrade_db_schema_version", "-1"], {"downgrade_db_schema_version": -1}),
        (["--enable_database_upgrade"], {"enable_database_upgrade": True}),
        (["--enable_database_upgrade=1"], {"enable_database_upgrade": True}),
        (["--enable_database_upgrade=False"], {"enable_database_upgrade": False}),
        (["--noenable_database_upgrade"], {"enable_database_upgrade": False}),
        (["--mysql_config_password=a=b c"], {"mysql_config_password": "a=b c"}),
        (["--grpc_port=1", "--grpc_port=2"], {"grpc_port": 2}),
    ],
)
def test_a_flag_is_written_as_gflags_takes_it(arguments: list[str], given: dict[str, object]) -> None:
    assert gflags.parse(arguments) == (given, [])


def test_what_belongs_to_the_originals_libraries_is_left_alone_and_said() -> None:
    arguments = ["--logtostderr", "--v=1", "-v", "2", "--nologtostderr", "word", "--grpc_port=7", "--", "--grpc_port=8"]
    assert gflags.parse(arguments) == (
        {"grpc_port": 7},
        ["--logtostderr", "--v=1", "-v", "--nologtostderr", "word", "--grpc_port=8"],
    )
    assert "--v=1 means nothing here" in start(["--v=1"], {}).warnings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grpc_prt=1"], "unknown flag --grpc_prt"),
        (["--grpc_port"], "--grpc_port needs a value"),
        (["--grpc_port=http"], "--grpc_port is a whole number, not 'http'"),
        (["--grpc_port=70000"], "0 to 65535"),
        (["--enable_database_upgrade=maybe"], "true or false"),
        (["--metadata_source_config_type=oracle"], "not 'oracle'"),
        (["--metadata_source_config_type=config_file"], "needs a config file"),
        (["--mysql_config_host=h", "--mysql_config_port=1"], "--mysql_config_database"),
        (["--metadata_source_config_type=mysql"], "--mysql_config_host"),
        (["--postgres_config_port=1"], "--postgres_config_host or"),
        (["--postgres_config_host=h", "--postgres_config_hostaddr=1.2.3.4"], "not both"),
        (["--postgres_config_host=h", "--postgres_config_port=1"], "--postgres_config_user"),
        (["--grpc_channel_arguments=alone"], "name=value"),
        (["--metadata_store_server_config_file=/none/config"], "cannot read the config file /none/config"),
        (["--downgrade_db_schema_version=6"], "schema version 6"),
    ],
)
def test_what_cannot_work_is_an_error_that_names_it(arguments: list[str], said: str) -> None:
    with pytest.raises(MetadataError, match=said):
        start(arguments, {})


def test_the_flags_for_postgresql() -> None:
    flags = {
        "hostaddr": "10.0.0.7",
        "port": "5432",
        "user": "us er",
        "password": "p@:/ä",
        "dbname": "meta/db",
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
        "passfile": "/pass",
    }
    found = start([f"--postgres_config_{name}={value}" for name, value in flags.items()], {})
    assert found.database == (
        "postgresql://us%20er:p%40%3A%2F%C3%A4@:5432/meta%2Fdb"
        "?sslmode=verify-full&sslrootcert=%2Fca.pem&hostaddr=10.0.0.7&passfile=%2Fpass"
    )


def test_the_environment_of_the_originals_container(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f'connection_config {{ sqlite {{ filename_uri: "{tmp_path}/m.db" }} }}')
    environment = {"GRPC_PORT": "9999", "METADATA_STORE_SERVER_CONFIG_FILE": str(file)}
    found = start([], environment)
    assert (found.grpc_port, found.database) == (9999, f"sqlite:///{tmp_path}/m.db")
    assert start(["--grpc_port=1"], environment).grpc_port == 1
    assert start([], {"GRPC_PORT": "", "METADATA_STORE_SERVER_CONFIG_FILE": ""}).grpc_port == 8080


def configured(folder: Path, text: str) -> list[str]:
    file = folder / "config.pbtxt"
    file.write_text(text)
    return [f"--metadata_store_server_config_file={file}"]


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ('sqlite { filename_uri: "/data/m.db" connection_mode: READWRITE_OPENCREATE }', "sqlite:////data/m.db"),
        ('sqlite { filename_uri: "file:///data/m%20.db?cache=shared" }', "sqlite:////data/m%20.db"),
        ("sqlite { }", "sqlite://"),
        ("fake_database { }", "sqlite://"),
        (
            'mysql { host: "db" port: 3306 database: "metadb" user: "u" password: "p" ssl_options { ca: "/ca" } }',
            "mysql://u:p@db:3306/metadb?ssl_ca=%2Fca&ssl_check_hostname=false",
        ),
        (
            'mysql { socket: "/run/mysqld.sock" database: "metadb" user: "u" }',
            "mysql://u@/metadb?unix_socket=%2Frun%2Fmysqld.sock",
        ),
        (
            'postgresql { host: "::1" port: "5432" dbname: "m" user: "u" ssloption { sslmode: "require" } }',
            "postgresql://u@[::1]:5432/m?sslmode=require",
        ),
    ],
)
def test_the_database_of_a_config_file(tmp_path: Path, text: str, database: str) -> None:
    assert start(configured(tmp_path, f"connection_config {{ {text} }}"), {}).database == database


def test_a_config_file_wins_over_flags_and_says_so(tmp_path: Path) -> None:
    arguments = configured(tmp_path, 'connection_config { sqlite { filename_uri: "/m.db" } }')
    found = start([*arguments, *KUBEFLOW], {})
    assert found.database == "sqlite:////m.db"
    assert found.warnings == ("the flags for mysql mean nothing beside config_file",)
    chosen = start([*arguments, *KUBEFLOW, "--metadata_source_config_type=mysql"], {})
    assert chosen.database.startswith("mysql://")


def test_migration_options_of_a_config_file(tmp_path: Path) -> None:
    config = "connection_config { fake_database { } } migration_options { %s }"
    assert start(configured(tmp_path, config % "enable_upgrade_migration: true"), {}).upgrade
    assert not start(configured(tmp_path, config % ""), {}).upgrade
    with pytest.raises(Unimplemented, match="schema version 4"):
        start(configured(tmp_path, config % "downgrade_to_schema_version: 4"), {})


@pytest.mark.parametrize(
    "text",
    ['connection_config { mysql { password: "secret" ', "connection_confg { }", "\x00\xff", "", "ssl_config { }"],
)
def test_a_malformed_config_file_is_an_error_and_no_database_in_memory(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"config\.pbtxt") as caught:
        start(configured(tmp_path, text), {})
    assert "secret" not in str(caught.value)


def test_modes_of_sqlite_that_cannot_be_served(tmp_path: Path) -> None:
    config = f'connection_config {{ sqlite {{ filename_uri: "{tmp_path}/m.db" connection_mode: %s }} }}'
    with pytest.raises(Unimplemented, match="READONLY"):
        start(configured(tmp_path, config % "READONLY"), {})
    with pytest.raises(Unavailable, match="no such database"):
        start(configured(tmp_path, config % "READWRITE"), {})
    (tmp_path / "m.db").touch()
    assert start(configured(tmp_path, config % "READWRITE"), {}).database == f"sqlite:///{tmp_path}/m.db"


def test_nothing_configured_is_a_database_that_is_gone_afterwards_and_says_so() -> None:
    found = start([], {})
    assert found.database == "sqlite://"
    assert "everything is gone" in found.warnings[0]
    assert start([], {"MDSTORE_DATABASE": "sqlite:///m.db"}).database == "sqlite:///m.db"


def test_tls_of_a_config_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    config = mlmd.MetadataStoreServerConfig()
    config.connection_config.fake_database.SetInParent()
    config.ssl_config.server_cert = issued.cert_chain_pems[0].bytes().decode()
    config.ssl_config.server_key = issued.private_key_pem.bytes().decode()
    config.ssl_config.custom_ca = authority.cert_pem.bytes().decode()
    one_sided = start(configured(tmp_path, text_format.MessageToString(config)), {}).tls
    assert one_sided is not None
    assert one_sided.look().client_ca is None
    config.ssl_config.client_verify = True
    mutual = start(configured(tmp_path, text_format.MessageToString(config)), {}).tls
    assert mutual is not None
    assert mutual.look().client_ca == authority.cert_pem.bytes()
    config.ssl_config.ClearField("custom_ca")
    with pytest.raises(InvalidArgument, match="custom_ca"):
        start(configured(tmp_path, text_format.MessageToString(config)), {})
    config.ssl_config.ClearField("server_key")
    with pytest.raises(InvalidArgument, match="server_key"):
        start(configured(tmp_path, text_format.MessageToString(config)), {})


def environment(**variables: str) -> dict[str, str]:
    return os.environ | {"MDSTORE_LOG_FORMAT": "json"} | variables


def test_the_process_serves_a_database_of_a_config_file_on_all_addresses(tmp_path: Path) -> None:
    arguments = configured(tmp_path, f'connection_config {{ sqlite {{ filename_uri: "{tmp_path}/m.db" }} }}')
    with started([*SERVER, *arguments, "-grpc_port", "0"], tmp_path, environment(MDSTORE_HTTP_PORT="0")) as server:
        assert '"address": "0.0.0.0:' in server.said()
        assert server.http is not None
        with mdstore.connect(f"grpc://{server.address}") as client:
            client.put_artifact_type(service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="t")))
    with mdstore.connect(f"sqlite:///{tmp_path}/m.db") as client:
        assert client.get_artifact_type(service.GetArtifactTypeRequest(type_name="t")).artifact_type.name == "t"


OLD_SCHEMA = """
CREATE TABLE Type (id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(255) NOT NULL,
  is_artifact_type TINYINT(1) NOT NULL);
CREATE TABLE TypeProperty (type_id INT NOT NULL, name VARCHAR(255) NOT NULL, data_type INT NULL,
  PRIMARY KEY (type_id, name));
CREATE TABLE Artifact (id INTEGER PRIMARY KEY AUTOINCREMENT, type_id INT NOT NULL, uri TEXT);
CREATE TABLE ArtifactProperty (artifact_id INT NOT NULL, name VARCHAR(255) NOT NULL,
  is_custom_property TINYINT(1) NOT NULL, int_value INT, double_value DOUBLE, string_value TEXT,
  PRIMARY KEY (artifact_id, name, is_custom_property));
CREATE TABLE Execution (id INTEGER PRIMARY KEY AUTOINCREMENT, type_id INT NOT NULL);
CREATE TABLE ExecutionProperty (execution_id INT NOT NULL, name VARCHAR(255) NOT NULL,
  is_custom_property TINYINT(1) NOT NULL, int_value INT, double_value DOUBLE, string_value TEXT,
  PRIMARY KEY (execution_id, name, is_custom_property));
CREATE TABLE Event (id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id INT NOT NULL, execution_id INT NOT NULL,
  type INT NOT NULL, milliseconds_since_epoch INT);
CREATE TABLE EventPath (event_id INT NOT NULL, is_index_step TINYINT(1) NOT NULL, step_index INT, step_key TEXT);
INSERT INTO Type (name, is_artifact_type) VALUES ('model', 1);
INSERT INTO Artifact (type_id, uri) VALUES (1, 's3://old');
"""


def test_an_old_database_is_upgraded_when_asked_to(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "m.db")
    database.executescript(OLD_SCHEMA)
    database.close()
    arguments = configured(tmp_path, f'connection_config {{ sqlite {{ filename_uri: "{tmp_path}/m.db" }} }}')
    command = [*SERVER, *arguments, "--grpc_port=0"]
    with pytest.raises(AssertionError, match="schema version 0"), started(command, tmp_path, environment()):
        pass
    with (
        started([*command, "--enable_database_upgrade"], tmp_path, environment()) as server,
        mdstore.connect(f"grpc://{server.address}") as client,
    ):
        found = client.get_artifacts_by_uri(service.GetArtifactsByURIRequest(uris=["s3://old"])).artifacts
        assert [artifact.type for artifact in found] == ["model"]


@pytest.mark.parametrize(
    "arguments", [["--grpc_prt=1"], ["--metadata_store_server_config_file=/none"], ["--grpc_port={taken}"]]
)
def test_what_cannot_start_says_so_in_one_line(tmp_path: Path, arguments: list[str], server: Server) -> None:
    said = [argument.format(taken=server.ports.grpc) for argument in arguments]
    with pytest.raises(AssertionError) as caught, started([*SERVER, *said], tmp_path, environment()):
        pass
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("mdstore: ")
    assert "Traceback" not in str(caught.value)


@pytest.mark.namespaces
def test_the_first_process_of_a_container_ends_while_it_waits_for_its_database(tmp_path: Path) -> None:
    """Linux does not end such a process by a signal that it does not handle."""
    flags = {"host": "127.0.0.1", "port": free_port(), "database": "m"}
    arguments = [f"--mysql_config_{name}={value}" for name, value in flags.items()]
    as_first = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
    log = tmp_path / "log"
    with log.open("wb") as stderr, subprocess.Popen([*as_first, *SERVER, *arguments], stderr=stderr) as process:
        try:
            until("it waits", lambda: b'"cannot_open"' in log.read_bytes(), seconds=60)
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            assert process.wait(5) == 128 + signal.SIGTERM
        finally:
            process.kill()
