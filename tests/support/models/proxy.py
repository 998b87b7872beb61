"""An HTTP proxy that leads everywhere to one port of this machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Proxy:
    """Answers `CONNECT` with a tunnel, or with `refusal`."""

    def __init__(self, target: int) -> None:
        self.address = ""
        self.target = target
        self.refusal = b""
        self.deaf = False
        """Whether what clients send goes nowhere."""
        self.heads: list[str] = []
        """What it was asked."""
        self.disconnected = asyncio.Event()
        """Set when a client has closed its side of a tunnel."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(writer.close)
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.refusal:
                writer.write(self.refusal)
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            stack.callback(back.close)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            answers = asyncio.create_task(self._copy(there, writer, ours=True))
            await self._copy(reader, back)
            self.disconnected.set()
            await answers

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ours: bool = False
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                if ours or not self.deaf:
                    writer.write(data)
                    await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[Proxy]:
    """Runs one on a free port."""
    proxy = Proxy(target)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
