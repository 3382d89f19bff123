"""Records what real drivers and a real server say to each other, and makes seeds for the fuzz targets of it.

    cargo build --package highwater --bins --examples && target/venv/bin/python fuzz/record

Needs what `cargo xtask setup` installs, and node with npm for one of the drivers. Seeds that only people can think of
stand in the `.txt` files beside the recorded `.hex` files, and are left alone.
"""

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import drivers
from forwarder import Forwarder, messages
from harness.lab import Lab

SEEDS = Path(__file__).resolve().parents[1] / "seeds"
# Larger bodies teach the fuzzer nothing that smaller ones do not.
BODY_BYTES_MAX = 400
# So many different messages of one type are kept of each driver.
OF_ONE_TYPE_MAX = 5
# `REQUESTS` of the target for the tracker.
REQUESTS = b"QPBDESPBESCHFdcf"

Conversation = list[tuple[str, bytes]]


def record() -> dict[str, list[Conversation]]:
    """All conversations, by driver."""
    lab = Lab(standbys=0)
    try:
        recorded = {}
        for play in drivers.ALL:
            forwarder = Forwarder(lab.primary.port)
            play(forwarder.port)
            recorded[play.__name__] = [messages(conversation) for conversation in forwarder.conversations]
        return recorded
    finally:
        lab.close()


def some(recorded: dict[str, list[Conversation]], wanted: str) -> Iterator[bytes]:
    """Of each driver, a few messages of each type that one side sent: those that differ in length most."""
    for conversations in recorded.values():
        kinds: dict[int, dict[int, bytes]] = {}
        for side, message in (pair for conversation in conversations for pair in conversation):
            if side == wanted and message[0] and len(message) < BODY_BYTES_MAX:
                kinds.setdefault(message[0], {}).setdefault(len(message), message)
        for of_length in kinds.values():
            lengths = sorted(of_length)
            step = max(1, len(lengths) // OF_ONE_TYPE_MAX)
            yield from (of_length[length] for length in lengths[::step][:OF_ONE_TYPE_MAX])


def first_packets(recorded: dict[str, list[Conversation]]) -> Iterator[bytes]:
    """Start-up packets, encryption requests and cancel requests."""
    for conversations in recorded.values():
        for conversation in conversations:
            yield from (message for side, message in conversation if side == "F" and not message[0])


def streams(recorded: dict[str, list[Conversation]]) -> Iterator[bytes]:
    """The beginnings of what one side said, with a limit and the sizes of pieces before them."""
    for conversations in recorded.values():
        for conversation in conversations[:2]:
            for wanted in "FB":
                said = b"".join(message for side, message in conversation if side == wanted and message[0])
                yield b"0\x03\x01\x07\x20" + said[:BODY_BYTES_MAX]


def choices(recorded: dict[str, list[Conversation]]) -> Iterator[bytes]:
    """The order of requests and replies, as choices of the target for the tracker."""
    for conversations in recorded.values():
        for conversation in conversations[:3]:
            steps = [b"1"]
            for side, message in conversation:
                if side == "F" and message[0] in REQUESTS:
                    steps.append(b"01" + bytes([ord("0") + REQUESTS.index(message[0])]))
                elif side == "B":
                    steps += [b"54", b"6"]
            yield b"".join(steps)[:BODY_BYTES_MAX]


def scram(recorded: dict[str, list[Conversation]]) -> Iterator[bytes]:
    """Messages of the login: as if a client (2) or a server (3) had made them up."""
    for conversations in recorded.values():
        texts = {"F": [], "B": []}
        for side, message in conversations[0][:12]:
            if side == "F" and message[0] == ord("p"):
                texts[side].append(message[5:].removeprefix(b"SCRAM-SHA-256\0\0\0\0\x20"))
            elif side == "B" and message[0] == ord("R") and message[8] in (11, 12):
                texts[side].append(message[9:])
        for kind, (first, *rest) in ((b"20", texts["F"]), (b"3", texts["B"])):
            yield kind + bytes([len(first)]) + first + b"".join(rest)


def certificates() -> Iterator[bytes]:
    """Those of the tests, without the armour."""
    for file in sorted((SEEDS.parents[1] / "crates/wire/tests/certificates").glob("*.pem")):
        yield ssl.PEM_cert_to_DER_cert(file.read_text())


def write(target: str, seeds: Iterator[bytes]) -> None:
    """One seed a line."""
    lines = sorted({seed.hex() for seed in seeds}, key=lambda line: (len(line), line))
    (SEEDS / f"{target}.hex").write_text("".join(f"{line}\n" for line in lines))
    print(f"{target}: {len(lines)} seeds")


def main() -> None:
    """Record, cut, write."""
    recorded = record()
    write("startup", first_packets(recorded))
    write("frame", streams(recorded))
    write("frontend", (message[:1] + b"\x01n" + message[5:] for message in some(recorded, "F")))
    write("backend", (message[:1] + message[5:] for message in some(recorded, "B")))
    write("scram", scram(recorded))
    write("tracker", choices(recorded))
    write("certificate", certificates())


if __name__ == "__main__":
    sys.exit(main())
