"""Asks over HTTP whether a child process is up."""

import asyncio
import ssl


async def http_status(address: str, path: str, *, tls: bool = False) -> int | None:
    """Returns the status that GET `path` at HOST:PORT has, or None where nothing answers HTTP.

    With `tls`, any certificate will do: nothing is said that somebody else may not hear.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=_any_certificate() if tls else None
            )
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


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
