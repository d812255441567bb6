"""Certificates that are renewed while the server runs: new connections get what is in the files now.

Whoever issues certificates (cert-manager, certbot) replaces the files long before the old certificate ends, and tells
nobody. So the files are looked at when somebody connects, on both ports: there is no signal to send, and no connection
to drop, since one that is open keeps what it began with.
"""

import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Self

import grpc
import structlog

from mdstore.errors import InvalidArgument
from mdstore.server.tls import Tls

log = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
"""Between two looks at the files, however many connect."""


class Certificates:
    """The certificate that both ports show, and the authorities of clients. Threads: any."""

    def __init__(self, read: Callable[[], Tls]) -> None:
        """Take what `read` gives now; it is asked again later.

        Raises:
            InvalidArgument: as `read`, and as `Tls.context`.
        """
        self._read = read
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._seen: Tls | str = read()
        self._tls = self._seen
        self._context = self._tls.context()
        self.renewals = 0
        """How often new files came into use."""
        self.refused = ""
        """Why what is in the files is not in use; empty when it is."""

    @classmethod
    def fixed(cls, tls: Tls) -> Self:
        """One that stays; raises as `Tls.context`."""
        return cls(lambda: tls)

    @classmethod
    def from_files(cls, certificate: str, key: str, client_ca: str) -> Self | None:
        """Those of PEM files; None when no file is named.

        Raises:
            InvalidArgument: as `Tls.from_files`.
        """
        if not (certificate or key or client_ca):
            return None
        return cls(lambda: Tls.from_files(certificate, key, client_ca))

    def look(self) -> Tls:
        """What is in use; the files are read again if that was not done just now. Never raises."""
        with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                self._look_again()
                self._looked_at = time.monotonic()
            return self._tls

    def _look_again(self) -> None:
        found: Tls | str
        try:
            found = self._read()
        except InvalidArgument as error:
            found = str(error)
        if found == self._seen:
            return  # refused before, or in use
        self._seen = found
        try:
            if isinstance(found, str):
                raise InvalidArgument(found)
            if found != self._tls:
                self._context = found.context()
                self._tls = found
                self.renewals += 1
                log.info("certificate_renewed")
            self.refused = ""
        except (InvalidArgument, OSError) as error:
            # Files that are replaced one after the other do not fit for a moment. Both in use fit, and go on.
            self.refused = str(error)
            log.warning("certificate_refused", reason=self.refused, kept="the one in use")

    def context(self) -> ssl.SSLContext:
        """For the HTTP port: a context that goes on to each new certificate."""
        return _Renewing(self)

    def newest_context(self) -> ssl.SSLContext:
        """For one connection."""
        self.look()
        return self._context

    def credentials(self) -> grpc.ServerCredentials:
        """For the gRPC port: credentials that go on to each new certificate."""
        given = self.look()

        def newest() -> Any:
            nonlocal given
            found = self.look()
            if found is given:
                return None  # gRPC goes on with what it has
            given = found
            return found.configuration()

        return grpc.dynamic_ssl_server_credentials(
            given.configuration(), newest, require_client_authentication=given.client_ca is not None
        )


class _Renewing(ssl.SSLContext):
    """What asyncio takes for a context, which begins each connection with the newest."""

    _certificates: Certificates

    def __new__(cls, certificates: Certificates) -> Self:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._certificates = certificates
        return made

    def __init__(self, certificates: Certificates) -> None:
        """Nothing: a context is made by `__new__`."""

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """As asyncio calls it for each connection."""
        return self._certificates.newest_context().wrap_bio(*arguments, **named)
