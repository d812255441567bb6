"""The `mdstore` command, also as `python -m mdstore`."""

import os
import sys

COMPLETING = "_MDSTORE_COMPLETE"
"""Set by the shell when it asks for completions."""


def main() -> None:
    """Run the subcommand that the command line names."""
    from mdstore.cli import interrupt  # noqa: PLC0415 - before anything else, which is slow

    interrupt.leaving_at_once()
    try:
        import typer  # noqa: F401, PLC0415 - looked for, because a pipeline step installs the client alone
    except ImportError:
        raise SystemExit(
            "mdstore: this is the client alone; the command comes with `pip install 'mdstore[server]'`"
        ) from None
    from mdstore.cli import app, exits, lifeline  # noqa: PLC0415 - need typer

    supervisor = lifeline.Lifeline()
    with exits.one_line_exits():
        asked = app.asked_for(sys.argv[1:])
        command = app.application(asked, everything=COMPLETING in os.environ)
        supervisor.wait_for_go()
        command(prog_name="mdstore")


if __name__ == "__main__":
    main()
