"""Cancelling as libpq does, over TLS where the connection is."""

import select

import psycopg

from .waiting import until


def sqlstate_of_cancelled(client: psycopg.Connection) -> str:
    """Start a statement that would never end, cancel it, and return the SQLSTATE of its end."""
    client.pgconn.send_query(b"SELECT pg_sleep(60)")

    # A request that comes before its statement hits nothing, so it is repeated.
    def ended() -> bool:
        client.cancel_safe()
        select.select([client.pgconn.socket], [], [], 0.2)
        client.pgconn.consume_input()
        return not client.pgconn.is_busy()

    until("the statement to end", ended)
    result = client.pgconn.get_result()
    assert client.pgconn.get_result() is None
    state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) if result else None
    return (state or b"").decode()
