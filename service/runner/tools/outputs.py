"""What a piece of code puts out: as its step shows it, and as its model sees it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog

from service.models.tokens import BYTES_PER_TOKEN
from service.runner.tools.files import Files
from service.runner.tools.logs import SEEN, Logs
from service.runner.tools.thread_files import DATA, FAILURES
from service.runner.tools.tool import Call, Delta
from service.sandbox.limits import Limits
from service.sandbox.port import End, Error, Event, Image, Text

log = structlog.get_logger(__name__)

ENDINGS = {"image/png": "png", "image/jpeg": "jpg"}

LEAST = 400
"""Characters of the logs that the model sees, however little room there is."""

NAMED = 20
"""Paths of files that the model is told at once."""

NOTHING = "[The code has put out nothing.]"


class Outputs:
    """The outputs of one call: one with its logs, and one for each image."""

    def __init__(self, call: Call, files: Files, limits: Limits) -> None:
        """Makes `files` of the images of a call that has these limits."""
        self._call = call
        self._files = files
        self._limits = limits
        self._logs = Logs()
        self._number = 0
        self._logs_at: int | None = None
        self._images: list[str] = []

    async def take(self, event: Event) -> Delta | None:
        """Takes an event of the session; returns what the step shows of it. Raises Unreachable."""
        match event:
            case Text(text):
                return self._add(text)
            case Error():
                return self._add(_error(event))
            case End():
                return self._add(self._end(event))
            case Image():
                return await self._add_image(event)

    def rest(self) -> Delta | None:
        """Returns what the step shows at last, if anything."""
        return self._shown(self._logs.end())

    def for_model(self, written: Mapping[str, str], left: Sequence[str]) -> str:
        """Returns what the model sees.

        The code has written files, of which some are given to the user, and some are left in the
        sandbox.
        """
        room = self._call.room
        most = SEEN if room is None else max(LEAST, min(SEEN, room * BYTES_PER_TOKEN // 2 * 2))
        seen = [self._logs.for_model(most).rstrip("\n")]
        seen += [f"[The user is shown an image: {file_id}]" for file_id in self._images]
        if written:
            seen.append(f"[Written: {_named([*written])}]")
        if left:
            seen.append(f"[Written, and given to the user only if linked to: {_named(left)}]")
        return "\n".join(each for each in seen if each) or NOTHING

    def _add(self, text: str) -> Delta | None:
        return self._shown(self._logs.add(text))

    def _shown(self, text: str) -> Delta | None:
        if not text:
            return None
        if self._logs_at is None:
            self._logs_at = self._new()
        return _output(self._logs_at, {"type": "logs", "logs": text})

    async def _add_image(self, image: Image) -> Delta | None:
        name = f"{self._call.id}-{len(self._images) + 1}.{ENDINGS[image.mime]}"
        try:
            file = await self._files.write(self._call.run.project_id, name, _once(image.data))
        except FAILURES as error:
            log.warning("image not kept", reason=str(error))
            return self._add("[An image could not be kept.]\n")
        self._images.append(file.id)
        return _output(self._new(), {"type": "image", "image": {"file_id": file.id}})

    def _new(self) -> int:
        self._number += 1
        return self._number - 1

    def _end(self, end: End) -> str:
        said = ""
        if end.interrupted:
            seconds = self._limits.seconds
            said = f"[The code was interrupted: it took longer than {seconds:g} seconds.]\n"
        if end.lost is not None:
            said += (
                f"[The Python session has ended: {end.lost}. Variables and imports are gone, files "
                f"in {DATA} are kept.]\n"
            )
        return said


def _named(paths: Sequence[str]) -> str:
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _output(index: int, output: dict[str, Any]) -> Delta:
    return Delta({"outputs": [{"index": index, **output}]})


def _error(error: Error) -> str:
    return f"{error.traceback or f'{error.name}: {error.value}'}\n"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
