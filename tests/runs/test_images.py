"""Images of a prompt: which are shown, and that each file is read once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.files.blobs.folder import FolderBlobs
from service.runner import images
from service.runner.images import GONE, LEFT_OUT, Images
from storage import Storage
from tests.support.files.stored import stored
from tests.support.storage.rows import PROJECT

PNG = b"\x89PNG\r\n\x1a\n"
SIZE = 300
URL = len("data:image/png;base64,") + SIZE // 3 * 4
"""Bytes of an image as it is sent."""


class Album:
    """Images in files."""

    def __init__(self, storage: Storage, blobs: FolderBlobs) -> None:
        self._files = storage.files
        self._blobs = blobs
        self._images = Images(storage.files, blobs)

    async def put(self, name: str, size: int = SIZE) -> str:
        """Makes an image; returns its file's id."""
        blob = await stored(self._blobs, (PNG + name.encode()).ljust(size, b"."))
        values = {"filename": name, "purpose": "vision", "expires_after": None}
        file = await self._files.create(PROJECT, values, blob)
        return str(file.id)

    async def shown(self, *turns: list[str]) -> list[list[Any]]:
        """Returns the parts of turns that show these files."""
        return await self.of(*map(parts_of, turns))

    async def of(self, *contents: list[Any]) -> list[list[Any]]:
        """Returns the parts of turns that have these."""
        turns = [{"role": "user", "content": each} for each in contents]
        return [turn["content"] for turn in await self._images.shown(PROJECT, turns)]


def parts_of(file_ids: list[str]) -> list[Any]:
    return [
        {"type": "image_file", "image_file": {"file_id": id, "detail": "auto"}} for id in file_ids
    ]


def seen(turns: list[list[Any]]) -> list[str]:
    """Which of the images are shown, by a letter each: shown, left out, gone."""
    letters = {str(LEFT_OUT): "l", str(GONE): "g"}
    return ["".join(letters.get(str(part), "s") for part in parts) for parts in turns]


@pytest.fixture
async def album(storage: Storage, tmp_path: Path) -> AsyncIterator[Album]:
    blobs = FolderBlobs(tmp_path / "files")
    yield Album(storage, blobs)
    await blobs.close()


async def test_the_newest_images_are_shown(album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c, d = [await album.put(name) for name in "abcd"]
    assert seen(await album.shown([a, b], [c], [d])) == ["ss", "s", "s"]
    monkeypatch.setattr(images, "MAX_TOTAL", 3 * URL)
    assert seen(await album.shown([a, b], [c], [d])) == ["ls", "s", "s"]
    monkeypatch.setattr(images, "MAX_TOTAL", 3 * URL - 1)
    assert seen(await album.shown([a, b], [c], [d])) == ["ll", "s", "s"]
    monkeypatch.setattr(images, "MAX_TOTAL", URL - 1)
    assert seen(await album.shown([a, b], [c], [d])) == ["ll", "l", "l"]


async def test_no_older_image_takes_the_place_of_one_that_is_left_out(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = await album.put("small"), await album.put("large", 10 * SIZE)
    monkeypatch.setattr(images, "MAX_TOTAL", 4 * URL)
    assert seen(await album.shown([small], [large, small], [small])) == ["l", "ls", "s"]


async def test_a_file_is_read_once_and_counts_each_time(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await album.put("a"), await album.put("b")
    monkeypatch.setattr(images, "MAX_TOTAL", 4 * URL)
    turns = await album.shown([a] * 500, [b, a], [a])
    assert seen(turns) == ["l" * 499 + "s", "ss", "s"]
    urls = [turns[0][-1], turns[1][1], turns[2][0]]
    first, *others = (part["image_url"]["url"] for part in urls)
    assert all(each is first for each in others)


async def test_data_urls_count_too(album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parts_of([await album.put("a")])
    data = [{"type": "image_url", "image_url": {"url": "data:," + "x" * URL, "detail": "auto"}}]
    linked = [{"type": "image_url", "image_url": {"url": "https://x/" + "x" * 999}}]
    monkeypatch.setattr(images, "MAX_TOTAL", 2 * URL)
    assert seen(await album.of([*linked, *data], file)) == ["sl", "s"]
    assert seen(await album.of(file, [*data, *linked])) == ["l", "ss"]


async def test_what_is_not_shown_takes_no_place(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, large = await album.put("a"), await album.put("large", 10 * SIZE)
    monkeypatch.setattr(images, "MAX_BYTES", SIZE)
    monkeypatch.setattr(images, "MAX_TOTAL", URL)
    assert seen(await album.shown([a], [large, "file-x"])) == ["s", "lg"]
