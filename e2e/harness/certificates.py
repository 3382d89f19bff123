"""Certificates of an authority that exists for the tests alone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization


@dataclass(frozen=True)
class Certificate:
    """Where a certificate and its key lie."""

    cert: Path
    key: Path

    def replace(self, other: "Certificate") -> None:
        """Put another certificate into these files, as a renewal does."""
        self.key.write_bytes(other.key.read_bytes())
        self.cert.write_bytes(other.cert.read_bytes())


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        self.file = folder / f"{name}-ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def revoke(self, certificate: Certificate) -> Path:
        """The list that has this one certificate."""
        revoked = x509.load_pem_x509_certificate(certificate.cert.read_bytes())
        key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        now = datetime.now(UTC)
        entry = x509.RevokedCertificateBuilder(revoked.serial_number, now - timedelta(days=1)).build()
        day = timedelta(days=1)
        builder = x509.CertificateRevocationListBuilder(revoked.issuer, now - day, now + day)
        builder = builder.add_revoked_certificate(entry).add_extension(x509.CRLNumber(1), critical=False)
        made: x509.CertificateRevocationList = builder.sign(key, hashes.SHA256())
        file = self._folder / "revoked.crl"
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return file

    def issue(self, name: str, *identities: str, **options: Any) -> Certificate:
        """A certificate in files that begin with `name`; without a common name unless `options` say so."""
        leaf = self._ca.issue_cert(*(identities or ("127.0.0.1", "localhost")), **options)
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        for path, content in [
            (made.cert, b"".join(pem.bytes() for pem in leaf.cert_chain_pems)),
            (made.key, leaf.private_key_pem.bytes()),
        ]:
            path.write_bytes(content)
        # libpq refuses keys that others may read.
        made.key.chmod(0o600)
        return made


def self_signed(folder: Path, common_name: str, key: Any, hashed_by: Any) -> Certificate:
    """What `openssl req -x509` makes: an authority's certificate, with a common name and nothing else."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = Certificate(folder / "self.pem", folder / "self.key")
    made.cert.write_bytes(builder.sign(key, hashed_by).public_bytes(serialization.Encoding.PEM))
    made.key.touch(0o600)
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
