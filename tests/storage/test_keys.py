"""Keys: by their digests, of projects by name, with a version that tells of every change."""

import asyncio

import pytest

from storage import Storage
from storage.errors import NotFound
from storage.keys import DEFAULT_PROJECT, ValidKeys
from tests.support.storage.rows import now_of


async def valid(storage: Storage, known: int | None = None) -> ValidKeys:
    found = await storage.keys.valid(known)
    assert found is not None
    return found


async def test_a_new_database_has_the_default_project_and_no_key(storage: Storage) -> None:
    [project] = await storage.keys.projects()
    assert (project.id, project.name) == (DEFAULT_PROJECT, DEFAULT_PROJECT)
    assert await storage.keys.list() == []
    assert [*(await valid(storage)).keys] == []


async def test_a_key_of_a_new_project(storage: Storage) -> None:
    one = await storage.keys.create("alpha", "one", "a")
    two = await storage.keys.create("alpha", "two", "b", 60)
    assert one.project_id == two.project_id
    assert one.project_id.startswith("proj_")
    assert [each.name for each in await storage.keys.projects()] == ["alpha", DEFAULT_PROJECT]
    assert await storage.keys.list() == [one, two]
    found = {each.name: each for each in (await valid(storage)).keys}
    assert (found["one"].digest, found["one"].project_name) == ("a", "alpha")
    assert found["one"].expires_at is None
    assert found["two"].expires_at == two.created_at + 60


async def test_the_default_project_can_get_keys(storage: Storage) -> None:
    assert (await storage.keys.create(DEFAULT_PROJECT, "k", "a")).project_id == DEFAULT_PROJECT


async def test_a_revoked_key(storage: Storage) -> None:
    key = await storage.keys.create("alpha", "one", "a")
    known = (await valid(storage)).version
    assert await storage.keys.valid(known) is None
    revoked = await storage.keys.revoke(key.id)
    assert revoked.revoked_at is not None
    assert [*(await valid(storage, known)).keys] == []
    assert await storage.keys.revoke(key.id) == revoked
    for id in ("key_x", "\0"):
        with pytest.raises(NotFound):
            await storage.keys.revoke(id)


async def test_an_expired_key(storage: Storage) -> None:
    await storage.keys.create("alpha", "one", "a", -1)
    await storage.keys.create("alpha", "two", "b", 3600)
    found = await valid(storage)
    assert [each.name for each in found.keys] == ["two"]
    assert abs(found.now - await now_of(storage)) < 3600


async def test_a_key_is_ensured_once_and_a_revoked_one_stays_so(storage: Storage) -> None:
    await asyncio.gather(*(storage.keys.ensure(DEFAULT_PROJECT, "first", "a") for _ in range(8)))
    [key] = await storage.keys.list()
    await storage.keys.revoke(key.id)
    await storage.keys.ensure(DEFAULT_PROJECT, "first", "a")
    [still] = await storage.keys.list()
    assert still.revoked_at is not None


async def test_keys_that_are_made_at_the_same_time_are_all_told_of(storage: Storage) -> None:
    before = (await valid(storage)).version
    made = await asyncio.gather(
        *(storage.keys.create("alpha", f"{number}", f"{number}") for number in range(20))
    )
    after = await valid(storage, before)
    assert after.version == before + 20
    assert {each.project_id for each in made} == {each.project for each in after.keys}
    assert len(after.keys) == 20
