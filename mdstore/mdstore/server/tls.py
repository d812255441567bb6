"""Certificates of the server: read once, checked before a port is opened, and given to both ports."""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from mdstore.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Tls:
    """A checked certificate with its key; PEM."""

    certificate: bytes
    """The server's, followed by those between it and its authority."""
    key: bytes
    client_ca: bytes | None
    """Authorities of clients: with it, a client without a certificate of theirs is refused."""

    @classmethod
    def from_files(cls, certificate: str, key: str, client_ca: str) -> Self | None:
        """Read files; None when none is named.

        Raises:
            InvalidArgument: one is missing or cannot be read, or as `checked`.
        """
        if not (certificate or key or client_ca):
            return None
        if not (certificate and key):
            raise InvalidArgument("TLS needs both MDSTORE_TLS_CERTIFICATE and MDSTORE_TLS_KEY")
        return cls.checked(
            _read("MDSTORE_TLS_CERTIFICATE", certificate),
            _read("MDSTORE_TLS_KEY", key),
            _read("MDSTORE_TLS_CLIENT_CA", client_ca) if client_ca else None,
        )

    @classmethod
    def checked(cls, certificate: bytes, key: bytes, client_ca: bytes | None) -> Self:
        """Take PEM texts.

        Raises:
            InvalidArgument: one is no PEM, the key is encrypted, or does not belong to the certificate.
        """
        made = cls(certificate, key, client_ca)
        made.context()
        return made

    def context(self) -> ssl.SSLContext:
        """For the HTTP port; raises as `checked`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The only way into an SSLContext leads through files; these are ours alone, and gone at once.
        with tempfile.TemporaryDirectory(prefix="mdstore-tls-") as folder:
            certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
            certificate.write_bytes(self.certificate)
            key.write_bytes(self.key)
            try:
                context.load_cert_chain(certificate, key, password=_refuse_encrypted_key)
            except ssl.SSLError as error:
                if error.reason == "KEY_VALUES_MISMATCH":
                    raise InvalidArgument("the key of the server does not belong to its certificate") from None
                raise InvalidArgument(
                    f"the certificate or the key of the server is no PEM ({_reason(error)})"
                ) from None
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
                raise InvalidArgument(f"the authorities of clients are no PEM ({_reason(error)})") from None
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """For the gRPC port."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)],
            root_certificates=self.client_ca,
            require_client_auth=self.client_ca is not None,
        )


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgument(f"{variable}: cannot read {path}: {reason}") from None


def _refuse_encrypted_key() -> str:
    # Without this, OpenSSL would ask for a password on the terminal.
    raise InvalidArgument("the key of the server is encrypted: gRPC needs it without a password")


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
