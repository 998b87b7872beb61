"""What a key costs: a look into memory, and nothing of the database."""

import asyncio

import pytest

from service.access import Keyring, digest, masked, new_key
from service.errors import ApiError, Kind
from storage import Storage
from tests.support.storage.recording import transactions
from tests.support.waiting import until

MANY = 200


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_valid_key_costs_no_query(storage: Storage) -> None:
    key, keyring = new_key(), Keyring(storage.keys)
    made = await storage.keys.create("alpha", "ci", digest(key))
    await keyring.load(None)
    with transactions() as ended:
        found = [await keyring.identify(bearer(key)) for _ in range(MANY)]
    assert ended == []
    assert {(each.project, each.project_name, each.key) for each in found} == {
        (made.project_id, "alpha", "ci")
    }


async def test_wrong_keys_that_come_together_cost_a_query_or_two(storage: Storage) -> None:
    keyring = Keyring(storage.keys)
    await keyring.load(None)
    with transactions() as ended:
        errors = await asyncio.gather(
            *(keyring.identify(bearer(new_key())) for _ in range(MANY)), return_exceptions=True
        )
    assert len(ended) <= 2
    assert {error.kind for error in errors if isinstance(error, ApiError)} == {Kind.invalid_api_key}


async def test_callers_that_go_away_while_the_keys_are_read(storage: Storage) -> None:
    """Whoever waits for the same look looks again."""
    key, keyring = new_key(), Keyring(storage.keys)
    await keyring.load(None)
    made = await storage.keys.create("alpha", "ci", digest(key))
    *gone, last = [asyncio.create_task(keyring.identify(bearer(key))) for _ in range(3)]
    for caller in gone:
        for _ in range(3):
            await asyncio.sleep(0)
        caller.cancel()
    assert (await last).project == made.project_id


async def test_a_key_that_others_make_and_revoke(storage: Storage) -> None:
    key, keyring = new_key(), Keyring(storage.keys)
    await keyring.load(None)
    made = await storage.keys.create("alpha", "ci", digest(key))
    assert (await keyring.identify(bearer(key))).project == made.project_id
    watching = asyncio.create_task(keyring.watch())
    await storage.keys.revoke(made.id)

    def gone() -> bool:
        return keyring._find(key) is None

    await until(gone)
    watching.cancel()
    with pytest.raises(ApiError) as refused:
        await keyring.identify(bearer(key))
    assert refused.value.kind == Kind.invalid_api_key


async def test_the_first_key(storage: Storage) -> None:
    key = "a-key-that-somebody-chose"
    for _ in range(2):
        keyring = Keyring(storage.keys)
        await keyring.load(key)
        assert (await keyring.identify({"api-key": key})).project == "default"
    assert len(await storage.keys.list()) == 1


def test_keys_differ_and_have_256_bits() -> None:
    keys = {new_key() for _ in range(MANY)}
    assert len(keys) == MANY
    assert {len(key) for key in keys} == {len("sk-") + 43}


@pytest.mark.parametrize("length", [0, 1, 5, 6, 19, 20, 43, 5000])
def test_what_is_shown_of_a_wrong_key(length: int) -> None:
    assert len(masked("k" * length).replace("*", "")) <= min(5, length // 4)
