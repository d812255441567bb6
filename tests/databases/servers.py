"""PostgreSQL and MariaDB of the tests' own: each in a folder that is gone afterwards, on a free port of loopback.

They start in under a second. Durability is off unless a test asks for it, which makes them several times faster.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, Self

from tests.ports import free_port

STARTED_S: Final = 60.0
STOPPED_S: Final = 30.0


def postgresql_programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, or None; they are not on the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda found: float(found.parts[-3]))
    found = folders[-1] if folders else shutil.which("initdb")
    return Path(found).parent if found else None


def mariadb_program() -> str | None:
    """The path of MariaDB's server, or None; it is on the PATH of root only."""
    return shutil.which("mariadbd", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")


class Server(ABC):
    """A server that runs until it is closed. Databases are made and emptied by whoever uses it."""

    def __init__(self, *, durable: bool, buffers_mb: int = 128, folder: Path | None = None) -> None:
        """Prepare its folder and start it.

        Args:
            durable: whether a commit waits for the disk.
            buffers_mb: how much of its tables it keeps in memory.
            folder: of its data, which then stay and are used again; by default a new one that is deleted at the end.
        """
        self._kept = folder is not None
        self.folder = Path(tempfile.mkdtemp(prefix="mdstore-server-")) if folder is None else folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.durable = durable
        self.buffers_mb = buffers_mb
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if not (self.folder / "data").exists():
                self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def url(self, database: str) -> str:
        """The URL of one of its databases, whether it is there or not."""

    @abstractmethod
    def library_config(self, database: str) -> dict[str, Any]:
        """The same for the C++ library: its `ConnectionConfig` as JSON."""

    @abstractmethod
    def execute(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a connection of its own; returns the rows of the last one."""

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            # It does not outlive the tests, however they end.
            command = ["setpriv", "--pdeathsig=KILL", *self._command()]
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        until = time.monotonic() + STARTED_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{type(self).__name__} does not start: {self.log()[-2000:]}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it; SIGKILL is a crash. Its data stay."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STOPPED_S)
            self._process = None

    def pid(self) -> int | None:
        """Of its first process, or None when it is stopped."""
        return None if self._process is None else self._process.pid

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        """End it, and delete its data unless the folder was given."""
        if self._kept:
            self.stop()
        else:
            self.stop(signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PostgreSQLServer(Server):
    """A cluster of its own, never Debian's service. PostgreSQL refuses to run as root, so there it is `postgres`."""

    _as: Final = ("--reuid=postgres", "--regid=postgres", "--init-groups") if os.getuid() == 0 else ()

    def _prepare(self) -> None:
        (self.folder / "password").write_text("secret")
        if self._as:
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        made = subprocess.run(
            [
                *(["setpriv", *self._as] if self._as else []),
                str(self._programs() / "initdb"),
                *("-D", str(self.folder / "data"), "-U", "mdstore", "--no-sync"),
                *("--pwfile", str(self.folder / "password"), "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout}{made.stderr}")

    def _programs(self) -> Path:
        found = postgresql_programs()
        assert found is not None
        return found

    def _command(self) -> list[str | Path]:
        durable = "on" if self.durable else "off"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": durable,
            "synchronous_commit": durable,
            "full_page_writes": durable,
            "shared_buffers": f"{self.buffers_mb}MB",
            "max_connections": 200,
            # In the data folder, which is deleted: what is in /dev/shm stays when a server is killed.
            "dynamic_shared_memory_type": "mmap",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*self._as, self._programs() / "postgres", "-D", self.folder / "data", *options]

    def _is_ready(self) -> bool:
        import psycopg

        try:
            self.execute("postgres", "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"postgresql://mdstore:secret@127.0.0.1:{self.port}/{database}"

    def library_config(self, database: str) -> dict[str, Any]:
        return {
            "postgresql": {
                "hostaddr": "127.0.0.1",
                "port": str(self.port),
                "user": "mdstore",
                "password": "secret",
                "dbname": database,
            }
        }

    def execute(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


class MariaDBServer(Server):
    """MariaDB. Its user `mdstore` has the native password, the one way to log in that the C++ library knows."""

    CHARSET: Final = "utf8mb4"
    COLLATION: Final = "utf8mb4_bin"

    def _prepare(self) -> None:
        user = ["--user=root"] if os.getuid() == 0 else []
        made = subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", *user),
                *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
                "--innodb_flush_method=nosync",
            ],
            # Each that starts removes the temporary tables that it finds there, also those of another one.
            env={**os.environ, "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db failed: {made.stdout}{made.stderr}")
        (self.folder / "users.sql").write_text(
            "CREATE USER IF NOT EXISTS mdstore@'127.0.0.1' IDENTIFIED BY 'secret';\n"
            "GRANT ALL ON *.* TO mdstore@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def _command(self) -> list[str | Path]:
        program = mariadb_program()
        assert program is not None
        settings = {
            "datadir": self.folder / "data",
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "tmpdir": self.folder,
            "init-file": self.folder / "users.sql",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "character-set-server": self.CHARSET,
            "collation-server": self.COLLATION,
            "innodb-flush-log-at-trx-commit": 1 if self.durable else 0,
            "innodb-flush-method": "fsync" if self.durable else "nosync",
            "innodb-buffer-pool-size": f"{self.buffers_mb}M",
            "innodb-log-file-size": "48M",
            "max-connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        user = ["--user=root"] if os.getuid() == 0 else []
        return [program, "--no-defaults", *user, "--skip-name-resolve", *options]

    def stop(self, number: int = signal.SIGTERM) -> None:
        super().stop(number)

    def _is_ready(self) -> bool:
        import pymysql

        try:
            self.execute("", "SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"mysql://mdstore:secret@127.0.0.1:{self.port}/{database}"

    def library_config(self, database: str) -> dict[str, Any]:
        return {
            "mysql": {
                "host": "127.0.0.1",
                "port": self.port,
                "user": "mdstore",
                "password": "secret",
                "database": database,
            }
        }

    def execute(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        import pymysql

        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="mdstore",
            password="secret",
            database=database or None,
            charset="utf8mb4",
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())
