"""An address that others stand behind: a name in DNS, or a balancer, as a port that hands connections on."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_CHUNK_BYTES = 65536


class Address:
    """A port that hands new connections on to the port `behind`. Those that exist stay where they are."""

    def __init__(self, behind: int, port: int = 0) -> None:
        self.behind = behind
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What the proxy is given instead of the server's own."""
        return f"postgres://highwater:highwater@127.0.0.1:{self._listener.getsockname()[1]}/shop"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.behind))
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                for source, target in (client, server), (server, client):
                    threading.Thread(target=self._hand_on, args=(source, target), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._open.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing gets through while the block runs; afterwards all of it does, in order."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def hang_up(self) -> None:
        """End all connections through it: nothing that either side sends from now on gets anywhere."""
        while self._sockets:
            _end(self._sockets.pop())

    def close(self) -> None:
        """End it, and all connections through it."""
        _end(self._listener)
        self.hang_up()


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
