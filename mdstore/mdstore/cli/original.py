"""`mdstore-metadata-store-server`: the store in the place of the original `ml_metadata_store_server`.

It takes the original's command line and listens on all addresses, as the original does. What is new is set by
`MDSTORE_...` variables, as for `mdstore serve`.
"""

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mdstore.cli import exits, interrupt

if TYPE_CHECKING:
    from mdstore.server.original import Start
    from mdstore.store.store import Store

ALL_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 - as the original: it is made for a pod of its own
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 5.0


def main() -> None:
    """Answer calls until stopped."""
    interrupt.leaving_at_once()
    with exits.one_line_exits():
        if {"--help", "-help", "-h"} & set(sys.argv[1:]):
            _help()
        else:
            _serve(sys.argv[1:])


def _serve(arguments: list[str]) -> None:
    import asyncio  # noqa: PLC0415 (--help need not wait for the server)

    import structlog  # noqa: PLC0415

    from mdstore.cli import logs  # noqa: PLC0415
    from mdstore.server import original  # noqa: PLC0415
    from mdstore.server.serving import serve  # noqa: PLC0415
    from mdstore.server.settings import ServeSettings  # noqa: PLC0415
    from mdstore.store.chores import doing_chores  # noqa: PLC0415

    logs.configure(logs.LogSettings())
    start = original.start(arguments, os.environ)
    settings = ServeSettings()
    plan = settings.plan()
    plan = replace(
        plan,
        host=plan.host if "host" in settings.model_fields_set else ALL_ADDRESSES,
        grpc_port=start.grpc_port,
        tls=start.tls or plan.tls,
        channel_arguments=start.channel_arguments,
    )
    for warning in start.warnings:
        structlog.get_logger().warning("ignored", reason=warning)
    with _opened(start, settings.keep_answers_s) as store, doing_chores(store, settings.reconcile_s):
        asyncio.run(serve(store, plan))


def _opened(start: "Start", keep_answers_s: float) -> "Store":
    """Open the database, upgrading it where that was asked for, and trying again while it is not there yet."""
    import structlog  # noqa: PLC0415

    from mdstore.errors import Aborted, FailedPrecondition, Unavailable  # noqa: PLC0415
    from mdstore.store.store import Store  # noqa: PLC0415
    from mdstore.store.upgrade import upgrade  # noqa: PLC0415

    may_upgrade = start.upgrade
    wait_s = FIRST_WAIT_S
    retries = start.retries
    while True:
        try:
            return Store.open(start.database, keep_answers_s=keep_answers_s, create=start.create, bootstraps_later=True)
        except FailedPrecondition:
            if not may_upgrade:
                raise
            may_upgrade = False
            done = upgrade(start.database)
            if done is not None:
                structlog.get_logger().info("upgraded", from_version=done.from_version, rows=done.rows)
        except (Aborted, Unavailable) as error:
            if not retries:
                raise
            retries -= 1
            structlog.get_logger().warning("cannot_open", reason=str(error), next_try_s=wait_s)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _help() -> None:
    from mdstore.server.gflags import DEFAULTS  # noqa: PLC0415

    lines = [
        "usage: mdstore-metadata-store-server [flags of ml_metadata_store_server]",
        "",
        "flags and their defaults:",
    ]
    lines += [
        f"  --{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in DEFAULTS.items()
    ]
    lines += ["", "What else can be set is in MDSTORE_... variables, as for `mdstore serve`."]
    print("\n".join(lines))  # noqa: T201 - what was asked for
