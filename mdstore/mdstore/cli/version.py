"""`mdstore version`."""

import platform
from importlib import metadata

import typer


def version() -> None:
    """Say what is installed: mdstore and its members, Python, the machine."""
    found = {
        distribution.name: distribution.version
        for distribution in metadata.distributions()
        if distribution.name == "mdstore" or distribution.name.startswith("mdstore-")
    }
    for name, number in sorted(found.items()):
        typer.echo(f"{name} {number}")
    typer.echo(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
