"""Does everything that OpenAI's Python client can do with a server, and says what fails.

`python -m tests.clients.python`, in the client's own environment: nothing here imports more than
the client. Every check is written once for the synchronous and the asynchronous client.
"""
