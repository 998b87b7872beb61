"""The process of the embedded model: `python -I llama.py PORT WEIGHTS`, on the loopback interface.

It imports nothing of ours, so that it starts fast.
"""

import os
import sys
import threading

CONTEXT = 8192
"""Tokens of one conversation with its answer, as many as the model was trained for."""

SLOTS = 4
"""Conversations that are answered at once; more wait. Each has its context to itself, 180 MiB:
in a shared one, an overflow breaks off all answers. On two cores, four together get about twice
the tokens per second that one gets alone.
"""

MAX_ANSWER = CONTEXT // 4
"""Tokens of an answer for which the request sets no limit: what service/runner/prompt.py keeps for
it. Few answers come near it, but one that goes in circles would hold its slot for minutes.
"""

BATCH = 512
"""Tokens of prompts that are read at a time. Between two batches the server says how far it is, and
sees to other conversations.
"""

REPEAT_PENALTY = 1.1
"""Small models go in circles without one, up to the limit."""

ERRORS_ONLY = 1
"""llama.cpp's verbosity."""


def serve(port: int, weights: str) -> None:
    """Loads the model and serves it for ever. Raises RuntimeError if it cannot."""
    # Threads that spin while they wait for each other take the cores from whoever has work to do:
    # on two busy cores that costs nine tenths of the tokens per second. Read when OpenMP loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT * SLOTS
    params.n_parallel = SLOTS
    params.n_batch = BATCH
    params.kv_unified = False
    params.n_predict = MAX_ANSWER
    params.sampling.penalty_repeat = REPEAT_PENALTY
    params.use_jinja = True
    params.cache_ram_mib = 0  # The slots' own contexts are cache enough.
    # A run may follow an answer: it is a message of its own, not the rest of that one.
    params.prefill_assistant = False
    params.ui = False
    params.offline = True
    params.verbosity = ERRORS_ONLY
    server = xllamacpp.Server(params)  # Serves in threads of its own, for as long as it is held.
    threading.Event().wait()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
