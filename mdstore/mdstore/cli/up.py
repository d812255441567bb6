"""`mdstore up`: everything on this machine, each part as the process that a deployment would run."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from mdstore.cli import demo as demo_data
from mdstore.cli import example, ports
from mdstore.cli.child import how_it_ended
from mdstore.cli.console import Console
from mdstore.cli.folder import DataFolder
from mdstore.cli.supervisor import Supervisor
from mdstore.services import Plan

GROUP: Final = "mdstore.services"
GRPC_PORT: Final = 8080
HTTP_PORT: Final = 8000
QUARANTINED: Final = 3
"""The exit code of a replay that recorded all but what it could not understand."""
REPLAYS: Final = 3
"""A replay that is cut short by a store that dies is begun again so often; it changes nothing twice."""


def up(
    data: Annotated[
        Path, typer.Option(envvar="MDSTORE_DATA", help="The folder that holds everything; made when missing.")
    ] = Path("mdstore-data"),
    demo: Annotated[bool, typer.Option("--demo", help="Record the events of real workflows, as an example.")] = False,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            envvar="MDSTORE_GRPC_PORT", min=0, max=65535, help=f"Of the store. {GRPC_PORT} or near it when not given."
        ),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            envvar="MDSTORE_HTTP_PORT", min=0, max=65535, help=f"Of GraphQL. {HTTP_PORT} or near it when not given."
        ),
    ] = None,
) -> None:
    """Run everything on this machine: store, lineage, GraphQL. Ctrl-C stops it; what was recorded stays.

    Listens on 127.0.0.1 only.
    """
    started_at = time.monotonic()
    with DataFolder.claim(data) as folder:
        grpc = ports.choose(grpc_port, GRPC_PORT, flag="--grpc-port")
        http = ports.choose(http_port, HTTP_PORT, flag="--http-port", taken=(grpc,))
        plan = Plan(data=folder.path, grpc_port=grpc, http_port=http)
        folder.note(_addresses(plan))
        services = [point.load()(plan) for point in sorted(metadata.entry_points(group=GROUP))]
        recorded = demo_data.directories() if demo else []
        console = Console([*(service.name for service in services), "replay"])
        supervisor = Supervisor(
            services,
            # -P: what lies in the folder that this was started in is no part of the program.
            command=(sys.executable, "-P", "-m", "mdstore"),
            console=console,
            environment=_environment(console),
            keep_open=[folder.lock_fd],
        )
        opening = _Opening(plan, console, supervisor, recorded, started_at=started_at)
        code = asyncio.run(supervisor.run(opening.run))
    raise typer.Exit(code)


class _Opening:
    """What happens once, when everything is ready: the demo's data, the addresses, an example."""

    def __init__(
        self, plan: Plan, console: Console, supervisor: Supervisor, recorded: Sequence[Path], *, started_at: float
    ) -> None:
        self._plan = plan
        self._console = console
        self._supervisor = supervisor
        self._recorded = recorded
        self._marker = demo_data.Marker(plan, recorded)
        self._started_at = started_at

    async def run(self) -> None:
        is_new = bool(self._recorded) and not self._marker.is_set
        holds_demo = await self._replay() if is_new else bool(self._recorded)
        seconds = time.monotonic() - self._started_at
        say = self._console.say
        say(f"\nmdstore is ready after {seconds:.1f} s. Its data is in {self._plan.data}")
        for name, address in _addresses(self._plan).items():
            say(f"  {name:<20} {address}")
        await self._show(example.ORIGIN if holds_demo else example.COUNTS, settled=is_new)
        say("Ctrl-C stops it.\n")

    async def _replay(self) -> bool:
        """Record the demo's events; whether they are in the store now."""
        service = demo_data.replay(self._plan, self._recorded)
        for _ in range(REPLAYS):
            restarts = self._supervisor.restarts
            code = await self._supervisor.run_once(service, on_terminal=self._console.is_terminal)
            if code in (0, QUARANTINED):
                self._marker.set()
            if code == 0 or self._supervisor.restarts == restarts:
                break
        if code != 0:
            self._console.warn(f"the replay of the demo's events {how_it_ended(code)}")
        return self._marker.is_set

    async def _show(self, asked: example.Example, *, settled: bool) -> None:
        url = _addresses(self._plan)["GraphQL"]
        try:
            answer = await example.answer(url, asked, settled=settled)
        except (OSError, ValueError) as error:
            self._console.warn(f"the example's question was not answered: {error}")
            return
        self._console.say(f"\n{asked.words}\n\n{asked.query}\n\n{example.shown(answer)}\n")


def _addresses(plan: Plan) -> dict[str, str]:
    return {
        "gRPC (MLMD clients)": f"{ports.LOOPBACK}:{plan.grpc_port}",
        "GraphQL": f"http://{ports.LOOPBACK}:{plan.http_port}/graphql",
    }


def _environment(console: Console) -> Mapping[str, str]:
    """The children's variables: ours, and how to log, since what they write to is a pipe and no terminal."""
    logs = {"MDSTORE_LOG_FORMAT": "color" if console.has_colors else "console"}
    # A port or folder that is meant for us, or an address that is meant for a service alone, would reach every child.
    ours = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {"PYTHONUNBUFFERED": "1", **logs, **ours}


_OURS: Final = frozenset({"MDSTORE_DATA", "MDSTORE_GRPC_PORT", "MDSTORE_HTTP_PORT", "MDSTORE_HOST"})
