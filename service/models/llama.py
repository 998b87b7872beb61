"""The process of the embedded model: `python -I llama.py PORT WEIGHTS`, on the loopback interface.

It imports nothing of ours, so that it starts fast.
"""

import sys
import threading

import xllamacpp

CONTEXT = 8192
"""Tokens of one conversation with its answer, as many as the model was trained for."""

SLOTS = 4
"""Conversations that are answered at once; more wait. Each has its context to itself, 180 MiB:
in a shared one, an overflow breaks off all answers. On two cores, four together give 160 tokens
per second, one alone 120.
"""

MAX_ANSWER = 2048
"""Tokens of an answer for which the request sets no limit. Small models tend to go in circles."""

ERRORS_ONLY = 1
"""llama.cpp's verbosity."""


def serve(port: int, weights: str) -> None:
    """Loads the model and serves it for ever. Raises RuntimeError if it cannot."""
    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT * SLOTS
    params.n_parallel = SLOTS
    params.kv_unified = False
    params.n_predict = MAX_ANSWER
    params.use_jinja = True
    params.cache_ram_mib = 0  # The slots' own contexts are cache enough.
    params.ui = False
    params.offline = True
    params.verbosity = ERRORS_ONLY
    server = xllamacpp.Server(params)  # Serves in threads of its own, for as long as it is held.
    threading.Event().wait()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
