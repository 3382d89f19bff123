"""Well-made tokens that tell lies. The layout is that of `crates/core/src/token.rs`."""

import base64
import struct

_LAYOUT = struct.Struct(">BQIIQQQ")


def forged(token: str, lsn: int | None = None, timeline: int | None = None, system_id: int | None = None) -> str:
    """The same token with another position, timeline or cluster, and the check digits that belong to it."""
    body = base64.urlsafe_b64decode(token)[: _LAYOUT.size]
    version, its_system_id, its_timeline, origin, its_lsn, replica_lsn, issued = _LAYOUT.unpack(body)
    body = _LAYOUT.pack(
        version,
        its_system_id if system_id is None else system_id,
        its_timeline if timeline is None else timeline,
        origin,
        its_lsn if lsn is None else lsn,
        replica_lsn,
        issued,
    )
    digits = 0x811C9DC5
    for byte in body:
        digits = (digits ^ byte) * 0x01000193 & 0xFFFFFFFF
    return base64.urlsafe_b64encode(body + struct.pack(">I", digits)).decode()
