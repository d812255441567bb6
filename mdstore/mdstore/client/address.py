"""Where a store's server is, and how to trust it: `grpc://HOST:PORT` and `grpcs://HOST:PORT?ca=...&cert=...&key=...`."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import grpc

from mdstore.errors import InvalidArgument
from mdstore.redaction import shown

_FORM = "write grpc://HOST:PORT, or grpcs://HOST:PORT?ca=FILE for TLS"


@dataclass(frozen=True, slots=True)
class Address:
    """What a gRPC channel is made from."""

    target: str
    credentials: grpc.ChannelCredentials | None
    """None for a connection without TLS."""
    options: tuple[tuple[str, str], ...] = ()


def parse(url: str) -> Address:
    """Read the URL of a server.

    Args:
        url: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` for TLS, with parameters that are all optional: `ca`, a PEM file
            of the authorities that may sign the server's certificate (without it: those that gRPC knows); `cert` and
            `key`, PEM files by which the client proves who it is; `name`, the name that the server's certificate
            carries when it is not HOST.

    Raises:
        InvalidArgument: the URL names no host or no port, a parameter is unknown, or a file cannot be read.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"{shown(url)!r} is no store's URL ({error}): {_FORM}") from None
    if parts.scheme not in {"grpc", "grpcs"} or not host or not port:
        raise InvalidArgument(f"{shown(url)!r} is no store's URL: {_FORM}")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    given = parse_qs(parts.query, keep_blank_values=True)
    parameters = {name: values[-1] for name, values in given.items()}
    known = {"ca", "cert", "key", "name"} if parts.scheme == "grpcs" else set()
    if unknown := parameters.keys() - known:
        raise InvalidArgument(
            f"{shown(url)!r} has the parameter {sorted(unknown)[0]!r}: "
            "grpcs:// takes ca, cert, key and name, and grpc:// none"
        )
    if parts.scheme == "grpc":
        return Address(target, None)
    if ("cert" in parameters) != ("key" in parameters):
        raise InvalidArgument(f"{shown(url)!r} needs both cert and key, or neither")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_pem(parameters, "ca"),
        private_key=_pem(parameters, "key"),
        certificate_chain=_pem(parameters, "cert"),
    )
    name = parameters.get("name")
    return Address(target, credentials, (("grpc.ssl_target_name_override", name),) if name else ())


def _pem(parameters: dict[str, str], name: str) -> bytes | None:
    if name not in parameters:
        return None
    try:
        content = Path(parameters[name]).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgument(f"cannot read {name}={parameters[name]}: {reason}") from error
    if b"-----BEGIN " not in content:
        raise InvalidArgument(f"{name}={parameters[name]} is no PEM file")
    return content
