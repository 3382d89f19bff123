"""Each server in a network namespace of its own, behind a router that drops or misleads what it is told to.

The router is the namespace that the proxies, their clients and our own eyes are in. A server has an address for each
who wants to reach it, so that what passes between any two can be dropped while all others go on.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.lab import Lab, Server
from harness.waiting import until

# Who wants to reach a server: a proxy by its number, a standby, or our own eyes.
Reader = int | Server | None

_INSIDE = "HIGHWATER_TORTURE_INSIDE"
_HBA = """
host all,replication app,highwater 10.77.0.0/16 scram-sha-256
host all,replication all 10.77.0.0/16 trust
"""
_RULES = """
add table inet torture
add set inet torture gone { type ipv4_addr; }
add chain inet torture input { type filter hook input priority 0; }
add chain inet torture output { type filter hook output priority 0; }
add chain inet torture forward { type filter hook forward priority 0; }
add table ip torture
add map ip torture led { type ipv4_addr . inet_service : ipv4_addr . inet_service ; }
add chain ip torture output { type nat hook output priority -100; }
add rule ip torture output dnat to ip daddr . tcp dport map @led
"""
_DROPS = [
    f"add rule inet torture {chain} ip {end} @gone drop"
    for chain in ("input", "output", "forward")
    for end in ("saddr", "daddr")
]


def enter() -> bool:
    """Start again inside the router; whether we are in it. Where no namespace can be had there are no partitions."""
    if os.environ.get(_INSIDE):
        _ip("link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        subprocess.run(["nft", "-f", "-"], input="\n".join([_RULES, *_DROPS]), text=True, check=True)
        return True
    if os.geteuid() != 0 or not all(shutil.which(program) for program in ("unshare", "nsenter", "ip", "nft")):
        print("no network namespace (it takes root, iproute2 and nftables): this run has no partitions", flush=True)
        return False
    environment = {**os.environ, _INSIDE: "1"}
    return os.execvpe("unshare", ["unshare", "--net", sys.executable, "-m", "torture", *sys.argv[1:]], environment)


class Network:
    """The cables between a lab's servers, which this moves into namespaces of their own, and all others."""

    def __init__(self, lab: Lab, proxies: int) -> None:
        self._places = {server.name: number for number, server in enumerate(lab.servers, 1)}
        readers: list[Reader] = [None, *range(proxies), *lab.servers]
        for server in lab.servers:
            lab.ways[server.name] = self._connect(server, readers)
        with (lab.folder / "pg_hba.conf").open("a") as hba:
            hba.write(_HBA)
        lab.servers = [replace(server, host=self.address(None, server)) for server in lab.servers]
        state = json.loads((lab.folder / "lab.json").read_text())
        state["servers"] = [{"name": it.name, "host": it.host, "port": it.port} for it in lab.servers]
        (lab.folder / "lab.json").write_text(json.dumps(state))
        for server in lab.servers:
            lab.command("stop", server.name)
            lab.command("start", server.name)

    def _connect(self, server: Server, readers: Sequence[Reader]) -> list[str]:
        """Make the server's namespace and its cable; the words that lead a command there."""
        # It exists until our end of the pipe is closed, however we end.
        holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        space = Path(f"/proc/{holder.pid}/ns/net")
        ours = Path("/proc/self/ns/net").readlink()
        until(f"the namespace of {server.name}", lambda: space.readlink() != ours)
        way = ["nsenter", f"--net={space}"]
        cable, router = f"to-{server.name}", f"10.77.{self._places[server.name]}.254"
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _ip("address", "add", f"{router}/24", "dev", cable)
        _ip("link", "set", cable, "up")
        for reader in readers:
            _ip("address", "add", f"{self.address(reader, server)}/24", "dev", "eth0", way=way)
        _ip("link", "set", "eth0", "up", way=way)
        _ip("link", "set", "lo", "up", way=way)
        _ip("route", "add", "default", "via", router, way=way)
        return way

    def address(self, reader: Reader, server: Server) -> str:
        """Where this one, and nobody else, reaches the server."""
        if reader is None:
            number = 1
        elif isinstance(reader, Server):
            number = 100 + self._places[reader.name]
        else:
            number = 10 + reader
        return f"10.77.{self._places[server.name]}.{number}"

    @contextmanager
    def cut(self, server: Server, readers: Sequence[Reader]) -> Iterator[None]:
        """Drop what these and the server send to each other while the block runs."""
        links = ", ".join(self.address(reader, server) for reader in readers)
        with self._element("inet torture gone", links):
            yield

    @contextmanager
    def swapped(self, one: Server, other: Server, readers: Sequence[int]) -> Iterator[None]:
        """New connections of these proxies to one of the two lead to the other one while the block runs."""
        places = [[f"{self.address(reader, server)} . {server.port}" for server in (one, other)] for reader in readers]
        led = ", ".join(f"{here} : {there}, {there} : {here}" for here, there in places)
        with self._element("ip torture led", led):
            yield

    @contextmanager
    def _element(self, where: str, what: str) -> Iterator[None]:
        element = f"element {where} {{ {what} }}"
        subprocess.run(["nft", f"add {element}"], check=True)
        try:
            yield
        finally:
            subprocess.run(["nft", f"delete {element}"], check=True)


def _ip(*words: str, way: Sequence[str] = ()) -> None:
    subprocess.run([*way, "ip", *words], check=True)
