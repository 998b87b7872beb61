"""The files of a session that runs elsewhere: sent before a call, fetched after it.

Between calls the server's folder is the truth: what it has is what outlives the session.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import suppress

from service.sandbox.channel import Channel
from service.sandbox.folder import FileRefused, Folder
from service.sandbox.frames import Answer, BadFrame
from service.sandbox.limits import MIB, Limits
from service.sandbox.session import ExchangeFailed

CHUNK = MIB
"""Bytes of a file in one message."""

ANSWER_SECONDS = 30.0
"""How long the other side may take to answer."""

Version = tuple[int, int]
"""Size and time of a file: another version has others."""


class FileExchange:
    """Keeps the folder here and that of one session there alike."""

    def __init__(self, folder: Folder, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._here: dict[str, Version] = {}
        self._there: dict[str, Version] = {}
        """What both sides had when they were alike last."""

        self._links: dict[str, str] = {}
        """Further names that files have been given there."""

        self._requests = 0

    async def push(self, channel: Channel) -> None:
        """Sends what is new here. See Exchange."""
        here = await self._list_here()
        for path in self._here.keys() - here.keys():
            await self._ask(channel, "drop", path=path)
        for path, version in here.items():
            if self._here.get(path) != version:
                await self._send(channel, path)
        for name, target in (await self._folder.links()).items():
            if self._links.get(name) != target:
                await self._ask(channel, "link", path=name, target=target)
                self._links[name] = target
        self._here = here
        self._there = await self._list_there(channel)

    async def pull(self, channel: Channel) -> None:
        """Fetches what is new there. See Exchange."""
        there = await self._list_there(channel)
        for path in self._there.keys() - there.keys():
            await self._remove(path)
        for path, version in there.items():
            if self._there.get(path) != version:
                await self._fetch(channel, path, version[0])
        self._there = there
        self._here = await self._list_here()

    async def _list_here(self) -> dict[str, Version]:
        return {entry.path: (entry.size, entry.modified) for entry in await self._folder.list()}

    async def _list_there(self, channel: Channel) -> dict[str, Version]:
        limits = self._limits
        value = await self._ask(channel, "list", most=limits.files)
        if not isinstance(value, list):
            raise BadFrame("no list of files")
        files: dict[str, Version] = {}
        for entry in value:
            match entry:
                case [str(path), int(size), int(modified)] if size >= 0:
                    files[path] = size, modified
                case _:
                    raise BadFrame("no list of files")
        if len(files) > limits.files:
            raise ExchangeFailed(f"it made more than {limits.files} files")
        if sum(size for size, _ in files.values()) > limits.disk:
            raise ExchangeFailed(f"its files took more than {limits.disk // MIB} MiB")
        return files

    async def _send(self, channel: Channel, path: str) -> None:
        offset = 0
        empty = True
        async for chunk in self._folder.get(path):
            for start in range(0, len(chunk), CHUNK):
                piece = chunk[start : start + CHUNK]
                await self._put(channel, path, offset, piece)
                offset += len(piece)
                empty = False
        if empty:
            await self._put(channel, path, 0, b"")

    async def _put(self, channel: Channel, path: str, offset: int, piece: bytes) -> None:
        data = base64.b64encode(piece).decode()
        if not await self._ask(channel, "put", path=path, offset=offset, data=data):
            raise ExchangeFailed(f"{path} could not be sent to it")

    async def _fetch(self, channel: Channel, path: str, size: int) -> None:
        # A name that none here may have, or a file that is gone again.
        with suppress(FileRefused, FileNotFoundError):
            await self._folder.put(path, self._pieces(channel, path, size))

    async def _pieces(self, channel: Channel, path: str, size: int) -> AsyncIterator[bytes]:
        offset = 0
        while offset < size:
            most = min(CHUNK, size - offset)
            value = await self._ask(channel, "get", path=path, offset=offset, size=most)
            if value is None or value == "":
                raise FileNotFoundError(path)
            if not isinstance(value, str):
                raise BadFrame("no data")
            try:
                piece = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise BadFrame("no base64") from None
            if len(piece) > most:
                raise BadFrame("more data than asked for")
            yield piece
            offset += len(piece)

    async def _remove(self, path: str) -> None:
        with suppress(FileRefused):
            await self._folder.remove(path)

    async def _ask(self, channel: Channel, what: str, **fields: object) -> object:
        self._requests += 1
        channel.send(do=what, id=self._requests, **fields)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                frame = await channel.take()
        except TimeoutError:
            raise ExchangeFailed("it did not answer about its files") from None
        if not isinstance(frame, Answer) or frame.id != self._requests:
            raise BadFrame("another answer than asked for")
        return frame.value
