"""The settings of `mdstore lineage follow`."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class LineageSettings(BaseSettings):
    """Each is a flag of `mdstore lineage follow` and an environment variable `MDSTORE_...`; the flag wins."""

    model_config = SettingsConfigDict(env_prefix="MDSTORE_", frozen=True, use_attribute_docstrings=True)

    store: str = ""
    """The store to follow: `grpc://HOST:PORT`, or its database's URL."""
    graph: str = ""
    """The lineage graph's URL, `sqlite:///FILE`."""
