"""A second port for a server: for suites that know PostgreSQL's port before it is chosen."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BUFFER_BYTES = 64 * 1024


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(_BUFFER_BYTES):
            target.write(data)
            await target.drain()
    target.close()


@contextmanager
def forward(port: int, to: int) -> Iterator[None]:
    """Pass on what arrives at `port` to the port `to` while the block runs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
