"""The environment variables that steps read, for `docs/settings.md`.

By hand and not by pydantic, which a pipeline step need not have.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable."""

    name: str
    default: str
    """As a person would write it; empty for none."""
    meaning: str


VARIABLES: Final = (
    Variable(
        "MDSTORE_STORE", "", "Where `mdstore.run` sends what a step logs; without it, it is only kept in the spool."
    ),
    Variable("MDSTORE_RUN_ID", "", "The run that steps are part of; else what Argo or Kubeflow say, else a new one."),
    Variable("MDSTORE_ATTEMPT", "", "Which try of its step a process is, from 0; else counted."),
    Variable(
        "MDSTORE_NAMESPACE",
        "",
        "The Kubernetes namespace of a step's pod; else `ARGO_NAMESPACE`, `POD_NAMESPACE`, or the service account's.",
    ),
    Variable("MDSTORE_CLUSTER", "default", "The cluster of a step's pod, as the writer that watches it was told."),
    Variable(
        "MDSTORE_SPOOL",
        "$XDG_STATE_HOME/mdstore/spool",
        "The folder for what a step could not send; without a home that can be written, below the temporary folder.",
    ),
    Variable("MDSTORE_SPOOL_MAX_BYTES", "67108864", "How much may be in that folder; what comes then is dropped."),
)
