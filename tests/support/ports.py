"""Ports of servers that tests start, and start again."""

import random
import socket
from pathlib import Path

LOWEST = 10_000


def free_port() -> int:
    """Returns a port of the loopback that nobody listens on.

    It is none of those that connections get by themselves: it stays free while its server is away.
    """
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.randrange(LOWEST, int(limits[0]))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
