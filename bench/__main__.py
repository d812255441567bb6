"""`uv run --no-sync python -m bench`: all measurements; name some to run only those."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import lineage, replay, store, visible

KNOWN = ("store", "visible", "replay", "lineage")


def main(
    which: Annotated[list[str] | None, typer.Argument(help=f"Some of: {', '.join(KNOWN)}.")] = None,
    clients: Annotated[str, typer.Option(help="Numbers of clients.")] = "1,16,64",
    repeats: Annotated[int, typer.Option(help="Paired repetitions.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Length of one load.", min=0.5)] = 4.0,
    writes: Annotated[int, typer.Option(help="Writes whose way to GraphQL is timed.", min=20)] = 200,
    executions: Annotated[int, typer.Option(help="Size of the lineage graph.", min=100)] = 100_000,
    results: Annotated[Path | None, typer.Option(help="Write the figures into this JSON file too.")] = None,
) -> None:
    """Measure mdstore, beside its peer where there is one, and print tables."""
    console = Console()
    unknown = set(which or ()) - set(KNOWN)
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}")
    wanted = which or KNOWN
    found: dict[str, object] = {}
    if "store" in wanted:
        found["store"] = store.run(console, [int(number) for number in clients.split(",")], repeats, seconds)
    if "visible" in wanted:
        found["visible"] = visible.run(console, writes)
    if "replay" in wanted:
        found["replay"] = replay.run(console, repeats)
    if "lineage" in wanted:
        found["lineage"] = lineage.run(console, executions)
    if results is not None:
        results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
