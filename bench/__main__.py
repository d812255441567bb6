"""`python -m bench --help`: measurements, each printing tables with the goals beside the figures."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import compare, feed, growth, inside, lineage, memory, replay, visible
from bench.databases import ENGINES
from bench.tables import Sheet

DATA = Path("/var/tmp") / f"mdstore-bench-{os.getuid()}"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=(
        "Measure mdstore, beside the original library where it can do the same, and print figures with their goals. "
        "`all` does everything that has a goal. Clients and servers share the machine: quote the ratios of one run."
    ),
)

Databases = Annotated[str, typer.Option("--databases", help="Some of sqlite, postgresql, mariadb.")]
Quick = Annotated[bool, typer.Option("--quick", help="One short repetition: for a look, not for quoting.")]
Repeats = Annotated[int, typer.Option(help="Paired repetitions.", min=1)]
Clients = Annotated[str, typer.Option(help="Numbers of clients.")]
Seconds = Annotated[float, typer.Option(help="Length of one load.", min=0.2)]
Sizes = Annotated[str, typer.Option(help="Numbers of executions in the stores.")]
Data = Annotated[
    Path, typer.Option(help="Where stores of 100,000 executions and more are kept; a database server must get in.")
]
Only = Annotated[list[str] | None, typer.Option("--call", help="Only calls with this in their names; repeatable.")]
Results = Annotated[
    Path | None, typer.Option(help="Add the tables to this JSON file, which `page` turns into Markdown.")
]
ALL = ",".join(ENGINES)
UP_TO_A_MILLION = "1000,10000,100000,1000000"


def _show(sheets: Iterable[Sheet], results: Path | None) -> None:
    # Into a file or a pipe, tables are not broken at 80 characters.
    console = Console(width=None if sys.stdout.isatty() else 220)
    for sheet in sheets:
        sheet.show(console)
        if results is not None:
            found: list[Any] = json.loads(results.read_text()) if results.exists() else []
            found = [one for one in found if one["title"] != sheet.title]
            found.append({**sheet.as_json(), "machine": _machine()})
            results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    when = time.strftime("%Y-%m-%d %H:%M")
    return (
        f"{when}, {cores} cores of {models[0] if models else platform.machine()}, CPython {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}"
    )


def _names(given: str) -> list[str]:
    names = given.split(",")
    if unknown := set(names) - set(ENGINES):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}")
    return names


def _numbers(given: str) -> list[int]:
    return sorted(int(part) for part in given.split(","))


@app.command()
def calls(
    databases: Databases = ALL,
    clients: Clients = "1,16,64",
    repeats: Repeats = 5,
    seconds: Seconds = 1.0,
    executions: Annotated[int, typer.Option(help="In the stores.", min=1000)] = 10_000,
    call: Only = None,
    processes: Annotated[int, typer.Option(help="Processes of each peer; 0 for what was fastest.", min=0)] = 0,
    quick: Quick = False,
    results: Results = None,
) -> None:
    """Calls a second, beside the library: F opens a store for each call, P keeps its stores (about 25 minutes)."""
    sheets = compare.run(
        _names(databases),
        _numbers(clients),
        repeats=1 if quick else repeats,
        seconds=0.5 if quick else seconds,
        executions=executions,
        only=call or (),
        processes=processes,
    )
    _show(sheets, results)


@app.command("growth")
def growing(
    databases: Databases = ALL,
    sizes: Sizes = UP_TO_A_MILLION,
    repeats: Repeats = 5,
    data: Data = DATA,
    quick: Quick = False,
    results: Results = None,
) -> None:
    """The same calls on stores of growing size, the largest lists, the start (the first time, half an hour to fill)."""
    data.mkdir(parents=True, exist_ok=True)
    chosen = _numbers("1000,10000" if quick else sizes)
    _show(growth.run(_names(databases), chosen, repeats=1 if quick else repeats, data=data), results)


@app.command("memory")
def remembering(
    databases: Databases = ALL,
    calls: Annotated[int, typer.Option(help="That a server gets, at most.", min=1000)] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="For which it gets them, at most.", min=5)] = 600,
    quick: Quick = False,
    results: Results = None,
) -> None:
    """The server's memory: idle, and while a million calls are made (10 minutes a database)."""
    _show(memory.run(_names(databases), calls=calls, seconds=20 if quick else seconds), results)


@app.command("feed")
def feeding(
    databases: Databases = ALL,
    sizes: Sizes = "100000,1000000",
    data: Data = DATA,
    quick: Quick = False,
    results: Results = None,
) -> None:
    """Following the change log, and snapshots (2 minutes, and the time to fill the stores)."""
    data.mkdir(parents=True, exist_ok=True)
    _show(feed.run(_names(databases), _numbers("1000,10000" if quick else sizes), data=data), results)


@app.command("inside")
def looking_inside(
    databases: Databases = ALL,
    executions: Annotated[int, typer.Option(help="In the stores.", min=1000)] = 10_000,
    call: Only = None,
    functions: Annotated[int, typer.Option(help="Lines of a profile for each call.", min=0)] = 0,
    results: Results = None,
) -> None:
    """Each call in process: processor time, round trips to the database, and where the time goes."""
    _show(inside.run(_names(databases), executions=executions, only=call or (), functions=functions), results)


@app.command("visible")
def becoming_visible(
    writes: Annotated[int, typer.Option(help="Writes that are timed.", min=20)] = 200, results: Results = None
) -> None:
    """From an acknowledged commit to its being shown by GraphQL, with everything of `mdstore up` running."""
    _show(visible.run(writes), results)


@app.command("replay")
def replaying(repeats: Repeats = 5, results: Results = None) -> None:
    """Recorded watch streams, replayed into SQLite."""
    _show(replay.run(repeats), results)


@app.command("lineage")
def walking(
    executions: Annotated[int, typer.Option(help="In the graph.", min=100)] = 100_000, results: Results = None
) -> None:
    """The embedded lineage graph: how fast it is written, how long its answers take."""
    _show(lineage.run(executions), results)


@app.command("all")
def everything(databases: Databases = ALL, data: Data = DATA, quick: Quick = False, results: Results = None) -> None:
    """All of the above, one after the other (about an hour and a half; --quick: ten minutes)."""
    calls(databases, quick=quick, results=results)
    growing(databases, data=data, quick=quick, results=results)
    remembering(databases, quick=quick, results=results)
    feeding(databases, data=data, quick=quick, results=results)
    becoming_visible(20 if quick else 200, results)
    replaying(1 if quick else 5, results)
    walking(10_000 if quick else 100_000, results)


@app.command()
def page(results: Annotated[Path, typer.Argument(help="A file that --results wrote.", exists=True)]) -> None:
    """Print the tables of a file of results as Markdown."""
    for found in json.loads(results.read_text()):
        print(Sheet.from_json(found).markdown())
        print(f"({found['machine']})\n")


if __name__ == "__main__":
    app()
