"""What the commands about nodes have in common: how a command line names nodes, and what scripts read."""

import getpass
import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from google.protobuf import json_format
from google.protobuf.message import Message

from mdstore.cli.exits import CannotStart
from mdstore.wire import nodes

StoreUrl = Annotated[str, typer.Option("--store", metavar="URL", help="grpc://HOST:PORT, or the database's URL.")]
Artifacts = Annotated[
    list[str] | None, typer.Option("--artifact", metavar="ID", help="An artifact's id or external id; again for more.")
]
Executions = Annotated[
    list[str] | None,
    typer.Option("--execution", metavar="ID", help="An execution's id or external id; again for more."),
]
Contexts = Annotated[
    list[str] | None, typer.Option("--context", metavar="ID", help="A context's id or external id; again for more.")
]
AsJson = Annotated[bool, typer.Option("--json", help="The store's answer as JSON, for scripts.")]

HELD_KINDS: Final = ("execution", "artifact", "context")
"""By MLMD's number of the kind, as a hold says it."""

LARGEST: Final = 2**63 - 1
"""Of ids and positions."""


def refs(
    what: str, artifacts: Sequence[str] | None, executions: Sequence[str] | None, contexts: Sequence[str] | None
) -> list[nodes.NodeRef]:
    """The nodes that options name: a number is an id, everything else an external id.

    Raises:
        CannotStart: they name none, where `what` is the verb of the command, or a number is no id.
    """
    found = [
        nodes.NodeRef(kind=kind, id=_id(given)) if given.isdecimal() else nodes.NodeRef(kind=kind, external_id=given)
        for kind, named in ((nodes.ARTIFACT, artifacts), (nodes.EXECUTION, executions), (nodes.CONTEXT, contexts))
        for given in named or ()
    ]
    if not found:
        raise CannotStart(f"{what} what? Name nodes with --artifact ID, --execution ID or --context ID")
    return found


def _id(given: str) -> int:
    if len(given) > 30 or int(given) > LARGEST:
        raise CannotStart(f"{given} is no id: the largest is {LARGEST}")
    return int(given)


def user() -> str:
    """Who asks, for the change log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id that has no name
        return ""


def as_json(message: Message) -> str:
    """One line of JSON as protobuf has it: names as in the `.proto` files, integers of 64 bits as text."""
    return json.dumps(_with_zeros(message, json_format.MessageToDict(message, preserving_proto_field_name=True)))


def _with_zeros(message: Message, found: dict[str, Any]) -> dict[str, Any]:
    # A script that looks for `artifacts` should find 0 and not nothing. protobuf has an option for that, of one name up
    # to its release 25 and another from 26 on.
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if isinstance(value, Message):
            if message.HasField(field.name):
                _with_zeros(value, found[field.name])
        elif not field.has_presence:
            number = "0" if field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_UINT64} else value
            found.setdefault(field.name, number if isinstance(value, bool | int | float | str) else [])
    return found
