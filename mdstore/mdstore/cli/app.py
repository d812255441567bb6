"""The `mdstore` command's subcommands, each imported only when it is the one that was asked for.

A member of the workspace names its typer application in the entry-point group `mdstore.commands`. In the help of
`mdstore` its distribution's summary stands for it, so that neither help nor `mdstore serve` waits for imports of all
members: that is 0.1 s instead of seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Final, cast

import typer

GROUP: Final = "mdstore.commands"


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """A command of this distribution: where it is, and its line in the help."""

    module: str
    function: str
    """Or a typer application, for a command with subcommands."""
    help: str
    logs: bool = True
    """It writes log events."""


OWN: Final[Mapping[str, OwnCommand]] = {
    "up": OwnCommand("mdstore.cli.up", "up", "Run everything on this machine: store, lineage, GraphQL.", logs=False),
    "serve": OwnCommand("mdstore.cli.serve", "serve", "Run the store: ML Metadata's gRPC service and its change feed."),
    "delete": OwnCommand(
        "mdstore.cli.delete", "delete", "Delete artifacts, executions, contexts; or say what that takes.", logs=False
    ),
    "hold": OwnCommand("mdstore.cli.hold", "app", "Keep nodes from being deleted; release, list them.", logs=False),
    "log": OwnCommand("mdstore.cli.log", "app", "Check, show and compact a store's change log.", logs=False),
    "spool": OwnCommand("mdstore.cli.spool", "app", "Show or send what steps logged while their store was away."),
    "upgrade": OwnCommand("mdstore.cli.upgrade", "upgrade", "Upgrade a database of an older MLMD schema.", logs=False),
    "version": OwnCommand("mdstore.cli.version", "version", "Say what is installed.", logs=False),
}


def asked_for(arguments: Sequence[str]) -> str | None:
    """The subcommand that a command line names: its first word that is no option."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def application(asked: str | None, *, everything: bool = False) -> typer.Typer:
    """The command with the subcommand `asked` ready to run, and all the others as a line of the help.

    Args:
        asked: the subcommand's name; None when help is all that is wanted.
        everything: load all subcommands, for the shell's completion.
    """
    app = typer.Typer(
        name="mdstore",
        help="ML metadata and lineage: what ran, what it used, what came of it.",
        no_args_is_help=True,
        rich_markup_mode=None,  # importing rich for help alone doubles the time it takes
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def begin() -> None:
        own = OWN.get(asked or "")
        if own is None or own.logs:
            logs = import_module("mdstore.cli.logs")
            logs.configure(logs.LogSettings())

    app.callback()(begin)
    for name, own in OWN.items():
        found = getattr(import_module(own.module), own.function) if everything or name == asked else _nothing
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=own.help)
        else:
            app.command(name, help=own.help)(found)
    # Looking up entry points takes 40 ms, which a command of our own need not spend.
    if asked not in OWN or everything:
        for point in sorted(metadata.entry_points(group=GROUP)):
            summary = point.dist.metadata["Summary"] if point.dist is not None else None
            if everything or point.name == asked:
                app.add_typer(cast("typer.Typer", point.load()), name=point.name, help=summary)
            else:
                app.command(point.name, help=summary)(_nothing)
    return app


def _nothing() -> None:
    """Stands in for a command that need not be imported."""
