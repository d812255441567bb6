"""The command line of the original server: its flags, written as Google's gflags takes them.

`--name=value`, `-name value`, and for booleans `--name`, `--noname` and `--name=true`. The table is the original's,
with its defaults; what else may stand on its command line belongs to its libraries, and is left alone with a word about
it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mdstore.errors import InvalidArgument

Value = str | int | bool

DEFAULTS: Final[Mapping[str, Value]] = {
    "grpc_port": 8080,
    "grpc_channel_arguments": "",
    "metadata_source_config_type": "default",
    "metadata_store_server_config_file": "",
    "metadata_store_connection_retries": 5,
    "mysql_config_host": "",
    "mysql_config_port": 0,
    "mysql_config_database": "",
    "mysql_config_user": "",
    "mysql_config_password": "",
    "postgres_config_host": "",
    "postgres_config_hostaddr": "",
    "postgres_config_port": "",
    "postgres_config_user": "",
    "postgres_config_password": "",
    "postgres_config_passfile": "",
    "postgres_config_dbname": "",
    "postgres_config_skip_db_creation": False,
    "postgres_config_sslmode": "",
    "postgres_config_sslcert": "",
    "postgres_config_sslkey": "",
    "postgres_config_sslpassword": "",
    "postgres_config_sslrootcert": "",
    "enable_database_upgrade": False,
    "downgrade_db_schema_version": -1,
}

LIBRARIES: Final = frozenset(
    {
        "alsologtoemail", "alsologtostderr", "colorlogtostderr", "drop_log_memory", "log_backtrace_at", "log_dir",
        "log_link", "log_prefix", "logbuflevel", "logbufsecs", "logemaillevel", "logfile_mode", "logmailer",
        "logtostderr", "max_log_size", "minloglevel", "stderrthreshold", "stop_logging_if_full_disk", "v", "vmodule",
    }
)  # fmt: skip
"""Of the library that writes the original's log."""
_SWITCHES: Final = frozenset(
    {"alsologtostderr", "colorlogtostderr", "log_prefix", "logtostderr", "stop_logging_if_full_disk", "drop_log_memory"}
)
_TRUE: Final = frozenset({"true", "t", "1", "yes", "y"})
_FALSE: Final = frozenset({"false", "f", "0", "no", "n"})


def parse(arguments: Sequence[str]) -> tuple[dict[str, Value], list[str]]:
    """The flags that are given, by name, and the words that mean nothing here.

    Raises:
        InvalidArgument: a flag is unknown, or its value is missing or none of its type.
    """
    given: dict[str, Value] = {}
    ignored: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            ignored.extend(words)
        elif not word.startswith("-"):
            ignored.append(word)
        else:
            _take(word, words, given, ignored)
    return given, ignored


def _take(word: str, rest: Iterator[str], given: dict[str, Value], ignored: list[str]) -> None:
    name, has_value, value = word.lstrip("-").partition("=")
    name = name.replace("-", "_")
    if name in LIBRARIES or name.removeprefix("no") in _SWITCHES:
        if name in LIBRARIES - _SWITCHES and not has_value:
            next(rest, None)
        ignored.append(word)
        return
    if name not in DEFAULTS and isinstance(DEFAULTS.get(name.removeprefix("no")), bool) and not has_value:
        given[name.removeprefix("no")] = False
        return
    if name not in DEFAULTS:
        raise InvalidArgument(f"unknown flag {word.partition('=')[0]}; --help lists those that there are")
    default = DEFAULTS[name]
    if isinstance(default, bool):
        given[name] = _boolean(name, value) if has_value else True
        return
    if not has_value:
        following = next(rest, None)
        if following is None:
            raise InvalidArgument(f"the flag --{name} needs a value")
        value = following
    given[name] = _integer(name, value) if isinstance(default, int) else value


def _boolean(name: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise InvalidArgument(f"--{name} is true or false, not {value!r}")


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument(f"--{name} is a whole number, not {value!r}") from None
