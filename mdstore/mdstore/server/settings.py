"""The settings of `mdstore serve`."""

from typing import Annotated

from annotated_types import Interval
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServeSettings(BaseSettings):
    """Each is a flag of `mdstore serve` and an environment variable `MDSTORE_...`; the flag wins."""

    model_config = SettingsConfigDict(env_prefix="MDSTORE_", frozen=True, use_attribute_docstrings=True)

    database: str = ""
    """The database's URL, `sqlite:///FILE`."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all of this machine's."""
    grpc_port: Annotated[int, Interval(ge=0, le=65535)] = 8080
    """The port of MLMD's gRPC service; 0 for a free one."""
    http_port: Annotated[int, Interval(ge=0, le=65535)] | None = None
    """A port for `/healthz` over HTTP; none by default."""
