"""Ports of the loopback interface for children."""

import socket

HOST = "127.0.0.1"


def reserve_port() -> socket.socket:
    """Returns a socket that holds a free port, so that a child finds it at every restart.

    It never listens. Nobody else is given the port, but the child may bind it, as both say
    SO_REUSEADDR.
    """
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((HOST, 0))
    return reserved
