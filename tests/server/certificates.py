"""Certificates for tests: an authority, a server and a client of it."""

from pathlib import Path

import trustme

from mdstore.server.renewal import Certificates


class Files:
    """PEM files of one authority, a server and a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.server, self.server_key = self._issue(folder, "server", "127.0.0.1")
        self.client, self.client_key = self._issue(folder, "client", "step@example.com")

    def _issue(self, folder: Path, name: str, identity: str) -> tuple[Path, Path]:
        issued = self.authority.issue_cert(identity)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def tls(self, *, mutual: bool = False) -> Certificates:
        made = Certificates.from_files(str(self.server), str(self.server_key), str(self.ca) if mutual else "")
        assert made is not None
        return made
