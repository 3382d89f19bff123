"""A forwarder between a driver and a server, which keeps what both say."""

import socket
import struct
import threading

# An encryption request, and the answer that declines it: no message, and not kept.
ENCRYPTION_REQUESTS = (80877103, 80877104)


class Forwarder:
    """Listens on a free port of loopback; every connection is passed on to the server and kept as a conversation."""

    def __init__(self, server_port: int) -> None:
        self.conversations: list[list[tuple[str, bytes]]] = []
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._server_port))
            kept: list[tuple[str, bytes]] = []
            self.conversations.append(kept)
            for side, source, sink in (("F", client, server), ("B", server, client)):
                threading.Thread(target=_pump, args=(side, source, sink, kept), daemon=True).start()


def _pump(side: str, source: socket.socket, sink: socket.socket, kept: list[tuple[str, bytes]]) -> None:
    try:
        while data := source.recv(65536):
            kept.append((side, data))
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def messages(conversation: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The conversation cut into whole messages, in the order in which their last bytes came; the start-up packet is one
    without a type byte."""
    buffers = {"F": b"", "B": b""}
    seen: list[tuple[str, bytes]] = []
    started = False
    for side, data in conversation:
        if side == "B" and not started:
            continue
        buffers[side] += data
        while len(buffers[side]) >= 5:
            head = 1 if started else 0
            length = struct.unpack_from(">I", buffers[side], head)[0] + head
            if len(buffers[side]) < length:
                break
            message, buffers[side] = buffers[side][:length], buffers[side][length:]
            if not started and struct.unpack_from(">I", message, 4)[0] in ENCRYPTION_REQUESTS:
                seen.append(("F", message))
                continue
            seen.append((side, message))
            started = True
    return seen
