"""Asks over HTTP whether a child process is up."""

import asyncio


async def http_status(address: str, path: str) -> int | None:
    """Returns the status that GET `path` at HOST:PORT has, or None where nothing answers HTTP."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                # Envoy answers nothing older than 1.1.
                lines = (f"GET {path} HTTP/1.1", f"Host: {address}", "Connection: close", "", "")
                writer.write("\r\n".join(lines).encode())
                answer = await reader.readline()
            finally:
                writer.close()
        return int(answer.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return None
