"""Runs a supervisor over the services that its first argument describes as JSON; says when `everything is ready`."""

import asyncio
import json
import os
import sys
from pathlib import Path

from mdstore.cli.console import Console
from mdstore.cli.exits import one_line_exits
from mdstore.cli.supervisor import Supervisor
from mdstore.services import Service


def main(described: str, ready_s: str) -> int:
    services = [
        Service(
            **{
                **one,
                "arguments": tuple(one["arguments"]),
                "after": tuple(one.get("after", ())),
                "imports": tuple(one.get("imports", ())),
            }
        )
        for one in json.loads(described)
    ]
    console = Console([service.name for service in services])
    supervisor = Supervisor(
        services,
        command=(sys.executable, str(Path(__file__).with_name("part.py"))),
        console=console,
        ready_s=float(ready_s),
        environment={**os.environ, "PYTHONUNBUFFERED": "1"},
    )

    async def opened() -> None:
        console.say("everything is ready")

    return asyncio.run(supervisor.run(opened))


with one_line_exits():
    sys.exit(main(*sys.argv[1:]))
