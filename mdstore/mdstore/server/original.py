"""What the original server's flags, configuration file and container environment come to here.

An existing deployment of `ml_metadata_store_server` starts with nothing changed but the image. Where the original falls
back to a database in memory because it cannot read what it was given, this is an error: a store that forgets
everything at its next start is not what somebody wanted who named a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from google.protobuf import text_format

from mdstore.errors import InvalidArgument, Unavailable, Unimplemented
from mdstore.server import gflags
from mdstore.server.renewal import Certificates
from mdstore.server.tls import Tls
from mdstore.store.tables import SCHEMA_VERSION
from mdstore.wire import mlmd

IN_MEMORY: Final = "sqlite://"
SOURCES: Final = ("default", "config_file", "mysql", "postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How to start."""

    database: str
    """The URL."""
    create: bool
    """Whether a server is asked to make a database that it does not have."""
    grpc_port: int
    tls: Certificates | None
    upgrade: bool
    """A database of an older schema may be upgraded."""
    retries: int
    """How often to try again when the database cannot be opened."""
    channel_arguments: tuple[tuple[str, int | str], ...]
    warnings: tuple[str, ...]
    """What was said and has no effect."""


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> Start:
    """Read the command line and the environment of the original's container.

    Args:
        arguments: without the program's name.
        environment: `GRPC_PORT` and `METADATA_STORE_SERVER_CONFIG_FILE` stand for the flags of these names, and
            `MDSTORE_DATABASE` for the database when nothing else names one.

    Raises:
        InvalidArgument: something contradicts itself or is malformed.
        Unavailable: the configuration file cannot be read.
        Unimplemented: something is asked for that this server does not do.
    """
    given, ignored = gflags.parse(arguments)
    for variable in ("GRPC_PORT", "METADATA_STORE_SERVER_CONFIG_FILE"):
        if environment.get(variable) and variable.lower() not in given:
            given |= gflags.parse([f"--{variable.lower()}={environment[variable]}"])[0]
    flags = {**gflags.DEFAULTS, **given}
    warnings = [f"{word} means nothing here" for word in ignored]

    config = _config(flags, warnings)
    connection = config.connection_config
    migration = config.migration_options
    upgrade = bool(flags["enable_database_upgrade"]) or migration.enable_upgrade_migration
    _check_downgrade(int(flags["downgrade_db_schema_version"]), upgrade=bool(flags["enable_database_upgrade"]))
    _check_downgrade(migration.downgrade_to_schema_version, upgrade=False)
    if connection.HasField("retry_options"):
        warnings.append("retry_options mean nothing here: --metadata_store_connection_retries does")
    database = _database(connection, environment.get("MDSTORE_DATABASE", ""))
    if database == IN_MEMORY:
        warnings.append("no database is configured: everything is gone when this server stops")
    port = int(flags["grpc_port"])
    if not 0 <= port <= 65535:
        raise InvalidArgument(f"--grpc_port is 0 to 65535, not {port}")
    return Start(
        database=database,
        create=not (connection.mysql.skip_db_creation or connection.postgresql.skip_db_creation),
        grpc_port=port,
        tls=_tls(config.ssl_config) if config.HasField("ssl_config") else None,
        upgrade=upgrade,
        retries=max(0, int(flags["metadata_store_connection_retries"])),
        channel_arguments=_channel_arguments(str(flags["grpc_channel_arguments"])),
        warnings=tuple(warnings),
    )


def _check_downgrade(version: int, *, upgrade: bool) -> None:
    if version == -1:
        return
    if version > SCHEMA_VERSION:
        raise InvalidArgument(f"there is no schema version {version} to bring the database back to")
    if upgrade:
        raise InvalidArgument("the database can be upgraded or brought back to an older version, not both")
    if version < SCHEMA_VERSION:
        raise Unimplemented(
            f"the database cannot be brought back to schema version {version} here, since that drops what the version "
            "has no columns for: copy the database, and let the ml-metadata library do it (downgrade_schema)"
        )


def _config(flags: Mapping[str, Any], warnings: list[str]) -> mlmd.MetadataStoreServerConfig:
    """The configuration, whether it came as a file or as flags."""
    source = flags["metadata_source_config_type"]
    if source not in SOURCES:
        raise InvalidArgument(f"--metadata_source_config_type is one of {', '.join(SOURCES)}, not {source!r}")
    file = flags["metadata_store_server_config_file"]
    mysql, postgresql = (_said(flags, prefix) for prefix in ("mysql_config_", "postgres_config_"))
    if source == "default":
        source = "config_file" if file else "mysql" if mysql else "postgresql" if postgresql else ""
    for name, used in (("config_file", file), ("mysql", mysql), ("postgresql", postgresql)):
        if used and name != source:
            what = "--metadata_store_server_config_file" if name == "config_file" else f"the flags for {name}"
            warnings.append(f"{what} mean nothing beside {source}")
    match source:
        case "config_file":
            if not file:
                raise InvalidArgument("--metadata_source_config_type=config_file needs a config file")
            return _read(file)
        case "mysql":
            return _mysql(mysql)
        case "postgresql":
            return _postgresql(postgresql)
    return mlmd.MetadataStoreServerConfig()


def _said(flags: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in flags.items() if name.startswith(prefix) and value}


def _read(file: str) -> mlmd.MetadataStoreServerConfig:
    try:
        content = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unavailable(f"cannot read the config file {file}: {reason}") from None
    try:
        found: mlmd.MetadataStoreServerConfig = text_format.Parse(content, mlmd.MetadataStoreServerConfig())
    except text_format.ParseError as error:
        # The error of the parser may quote what stands there, and that may be a password.
        line = f", line {error.GetLine()}" if error.GetLine() else ""
        raise InvalidArgument(f"the config file {file}{line} is no MetadataStoreServerConfig") from None
    if found.connection_config.WhichOneof("config") is None:
        raise InvalidArgument(f"the config file {file} names no database in connection_config")
    return found


def _mysql(said: Mapping[str, Any]) -> mlmd.MetadataStoreServerConfig:
    missing = [name for name in ("host", "port", "database") if name not in said]
    if missing:
        raise InvalidArgument(f"MySQL needs --mysql_config_{missing[0]} too")
    config = mlmd.MetadataStoreServerConfig()
    for name, value in said.items():
        setattr(config.connection_config.mysql, name, value)
    return config


def _postgresql(said: Mapping[str, Any]) -> mlmd.MetadataStoreServerConfig:
    if ("host" in said) == ("hostaddr" in said):
        raise InvalidArgument("PostgreSQL needs --postgres_config_host or --postgres_config_hostaddr, and not both")
    missing = [name for name in ("port", "user", "dbname") if name not in said]
    if missing:
        raise InvalidArgument(f"PostgreSQL needs --postgres_config_{missing[0]} too")
    config = mlmd.MetadataStoreServerConfig()
    for name, value in said.items():
        into = config.connection_config.postgresql
        setattr(into.ssloption if name.startswith("ssl") else into, name, value)
    return config


def _database(connection: mlmd.ConnectionConfig, otherwise: str) -> str:
    match connection.WhichOneof("config"):
        case "sqlite":
            return _sqlite_url(connection.sqlite)
        case "mysql":
            return _mysql_url(connection.mysql)
        case "postgresql":
            return _postgresql_url(connection.postgresql)
        case "fake_database":
            return IN_MEMORY
    return otherwise or IN_MEMORY


def _sqlite_url(config: mlmd.SqliteMetadataSourceConfig) -> str:
    name = config.filename_uri
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    if not name or name == ":memory:":
        return IN_MEMORY
    if config.connection_mode == mlmd.SqliteMetadataSourceConfig.READONLY:
        raise Unimplemented(f"{name}: a database cannot be served without being written (READONLY)")
    if config.connection_mode == mlmd.SqliteMetadataSourceConfig.READWRITE and not Path(name).exists():
        raise Unavailable(f"{name}: there is no such database, and READWRITE does not create one")
    return f"sqlite:///{quote(name)}"


def _mysql_url(config: mlmd.MySQLDatabaseConfig) -> str:
    ssl = config.ssl_options
    parameters = {f"ssl_{name}": getattr(ssl, name) for name in ("ca", "capath", "cert", "cipher", "key")}
    if ssl.verify_server_cert and not (ssl.ca or ssl.capath):
        raise InvalidArgument("ssl_options has verify_server_cert, and neither ca nor capath to verify it by")
    if any(parameters.values()):
        # As MySQL's own client: by the authority alone, unless the name is to be checked too.
        parameters["ssl_check_hostname"] = "true" if ssl.verify_server_cert else "false"
    return _url("mysql", config, str(config.port or ""), config.database, parameters | {"unix_socket": config.socket})


def _postgresql_url(config: mlmd.PostgreSQLDatabaseConfig) -> str:
    ssl = config.ssloption
    parameters = {name: getattr(ssl, name) for name in ("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert")}
    parameters |= {"hostaddr": config.hostaddr, "passfile": config.passfile}
    return _url("postgresql", config, config.port, config.dbname, parameters)


def _url(scheme: str, config: Any, port: str, database: str, parameters: Mapping[str, str]) -> str:
    user = quote(config.user, safe="")
    if config.password:
        user += f":{quote(config.password, safe='')}"
    host = f"[{config.host}]" if ":" in config.host else config.host
    where = f"{user}@{host}" if user else host
    if port:
        where += f":{port}"
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{scheme}://{where}/{quote(database, safe='')}" + (f"?{query}" if query else "")


def _tls(config: mlmd.MetadataStoreServerConfig.SSLConfig) -> Certificates:
    if not (config.server_key and config.server_cert):
        raise InvalidArgument("ssl_config needs both server_key and server_cert, as PEM texts")
    if config.client_verify and not config.custom_ca:
        raise InvalidArgument("ssl_config has client_verify, and no custom_ca to verify clients by")
    authorities = config.custom_ca.encode() if config.client_verify else None
    return Certificates.fixed(Tls(config.server_cert.encode(), config.server_key.encode(), authorities))


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """As the original: `name=value,name=value`, where what looks like a whole number is one."""
    found: list[tuple[str, int | str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, has_value, value = part.partition("=")
        if not (name and has_value):
            raise InvalidArgument(f"--grpc_channel_arguments is name=value,name=value, not {part!r}")
        found.append((name, int(value) if value.lstrip("-").isdigit() else value))
    return tuple(found)
