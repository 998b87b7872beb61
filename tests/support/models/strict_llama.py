"""A llama.cpp server with the chat template that stands in the environment.

Its process is `python -I strict_llama.py PORT WEIGHTS`.
"""

import os
import sys
import threading

# As the embedded model's server: on busy cores, threads that spin take what the others need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import xllamacpp


def serve(port: int, weights: str, template: str) -> None:
    """Serves the model with this template for ever."""
    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 1024
    params.n_parallel = 1
    params.use_jinja = True
    params.chat_template = template
    params.prefill_assistant = False
    params.cache_ram_mib = 0
    params.ui = False
    params.offline = True
    params.verbosity = 1
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], os.environ["TEMPLATE"])
