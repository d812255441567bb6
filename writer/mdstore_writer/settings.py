"""The writer's settings."""

from typing import Annotated

from annotated_types import Ge
from pydantic_settings import BaseSettings, SettingsConfigDict


class WriterSettings(BaseSettings):
    """The writer: `mdstore writer watch` and `mdstore writer replay`."""

    model_config = SettingsConfigDict(env_prefix="MDSTORE_", frozen=True, use_attribute_docstrings=True)

    cluster: str = "default"
    """The name of the observed cluster. It is part of the keys of all records, so one cluster keeps one name."""
    flush_interval_ms: Annotated[int, Ge(0)] = 100
    """A watch sends what changed after so long, in one request."""
    settle_s: Annotated[float, Ge(0)] = 3.0
    """A watch decides after so long which version an execution used that came from outside of its run."""
    forget_after_s: Annotated[float, Ge(0)] = 600.0
    """A watch drops from memory what is known of a deleted workflow after so long without news of it."""
