"""A certificate of the server: read from files, checked, and in the forms that both ports take."""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from mdstore.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate with its key; PEM."""

    certificate: bytes
    """The server's, followed by those between it and its authority."""
    key: bytes
    client_ca: bytes | None
    """Authorities of clients: with it, a client without a certificate of theirs is refused."""

    @classmethod
    def from_files(cls, certificate: str, key: str, client_ca: str) -> Self:
        """Read files, of which `client_ca` may be none.

        Raises:
            InvalidArgument: one is missing or cannot be read.
        """
        if not (certificate and key):
            raise InvalidArgument("TLS needs both MDSTORE_TLS_CERTIFICATE and MDSTORE_TLS_KEY")
        return cls(
            _read("MDSTORE_TLS_CERTIFICATE", certificate),
            _read("MDSTORE_TLS_KEY", key),
            _read("MDSTORE_TLS_CLIENT_CA", client_ca) if client_ca else None,
        )

    def context(self) -> ssl.SSLContext:
        """For HTTP.

        Raises:
            InvalidArgument: one is no PEM, the key is encrypted, or does not belong to the certificate.
        """
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

    def configuration(self) -> Any:
        """For gRPC: a `grpc.ServerCertificateConfiguration`."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_ca)


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
