"""A lab that asks everybody for a password and has TLS, as a cluster of some importance does."""

import base64
import hashlib
import hmac
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from .certificates import Certificate
from .lab import Lab, binary
from .waiting import until

# `md5` asks for what the role has: SCRAM where its stored password is SCRAM's.
HBA = """\
local all,replication all trust
host replication all 127.0.0.1/32 trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 md5
"""

_names = count(1)


class Guarded(Lab):
    """A lab whose roles must prove themselves, and whose servers have TLS."""

    def __init__(self, standbys: int, certificate: Certificate) -> None:
        super().__init__(standbys)
        self._write_hba(HBA)
        self.install("server.crt", certificate.cert.read_bytes())
        self.install("server.key", certificate.key.read_bytes())
        for server in self.servers:
            server.setting("ssl_cert_file", f"{self.folder}/server.crt")
            server.setting("ssl_key_file", f"{self.folder}/server.key")
            server.setting("ssl", "on")

    def install(self, name: str, content: bytes) -> str:
        """Put a file into the lab's folder as PostgreSQL wants its keys: for nobody else to read."""
        file = self.folder / name
        file.write_bytes(content)
        file.chmod(0o600)
        owner = self.folder.stat()
        shutil.chown(file, owner.st_uid, owner.st_gid)
        return str(file)

    def _write_hba(self, text: str) -> None:
        (self.folder / "pg_hba.conf").write_text(text)
        for server in self.servers:
            loaded = server.value("SELECT pg_conf_load_time()")
            server.rows("SELECT pg_reload_conf()")
            until(f"{server.name} to reload", lambda s=server, at=loaded: s.value("SELECT pg_conf_load_time()") != at)

    @contextmanager
    def with_hba(self, *lines: str) -> Iterator[None]:
        """Rules that come before the others while the block runs."""
        self._write_hba("\n".join([*lines, HBA]))
        try:
            yield
        finally:
            self._write_hba(HBA)

    def role(self, password: str, options: str = "") -> str:
        """A new role that may do what `app` may; `password` as SQL has it, stored or not."""
        name = f"role{next(_names)}"
        self.primary.rows(f"CREATE ROLE {name} LOGIN IN ROLE app {options} PASSWORD '{password}'")
        self.settle()
        return name

    def alter(self, role: str, change: str) -> None:
        """Change a role, everywhere."""
        self.primary.rows(f"ALTER ROLE {role} {change}")
        self.settle()

    def connections(self, role: str) -> dict[str, int]:
        """How many connections each server has for this role."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND application_name NOT LIKE 'highwater%%'"
        return {server.name: server.value(sql, role) for server in self.servers}

    def throw_out(self, role: str) -> None:
        """End all connections of this role."""
        for server in self.servers:
            server.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
        until(f"{role} to be out", lambda: not any(self.connections(role).values()))

    def allow_lookup(self, role: str = "highwater") -> None:
        """Run what `highwater auth-sql` prints, as the documentation says."""
        sql = subprocess.run([binary(), "auth-sql", "--role", role], capture_output=True, text=True, check=True).stdout
        command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.primary.port)]
        subprocess.run([*command, "-U", "postgres", "-d", "shop"], input=sql, text=True, check=True)
        self.settle()

    def forbid_lookup(self) -> None:
        """Undo it."""
        self.primary.rows("DROP SCHEMA IF EXISTS highwater CASCADE")
        self.settle()


def verifier(password: str, salt: bytes, iterations: int) -> str:
    """What PostgreSQL would store of a password (RFC 5803), with any salt and number of rounds."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client, server = (hmac.digest(salted, f"{side} Key".encode(), "sha256") for side in ("Client", "Server"))
    fields = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256${iterations}:{fields[0]}${fields[1]}:{fields[2]}"


def md5(user: str, password: str) -> str:
    """What PostgreSQL stores where `password_encryption` is md5."""
    return "md5" + hashlib.md5(f"{password}{user}".encode()).hexdigest()
