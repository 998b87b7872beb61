import pytest

from storage import Storage
from storage.errors import NotFound
from storage.pages import PageRequest
from tests.support.storage.rows import OTHER, PROJECT, assistant_values


async def test_what_is_created_can_be_read(storage: Storage) -> None:
    schema = {"zeta": {"type": "string"}, "alpha": {"type": "number", "minimum": 0.5}}
    values = assistant_values(
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}],
        metadata_={"b": "2", "a": "1"},
        response_format={"type": "json_object"},
        temperature=0.3,
        instructions="ä" * 1000,
    )
    created = await storage.assistants.create(PROJECT, values)
    assert created.id == f"asst_{created.position}"
    read = await storage.assistants.get(PROJECT, created.id)
    assert read == created
    assert {name: getattr(read, name) for name in values} == values | {"tool_resources": {}}
    # A JSON Schema comes back as it was given, in the order of its keys.
    assert list(read.tools[0]["function"]["parameters"]) == ["zeta", "alpha"]


async def test_modify_replaces_what_is_given_and_leaves_the_rest(storage: Storage) -> None:
    created = await storage.assistants.create(PROJECT, assistant_values(metadata_={"a": "1"}))
    changes = {"metadata_": {"b": "2"}, "name": None, "response_format": {"type": "text"}}
    modified = await storage.assistants.modify(PROJECT, created.id, changes)
    assert (modified.metadata_, modified.name, modified.model) == ({"b": "2"}, None, "a-model")
    assert await storage.assistants.get(PROJECT, created.id) == modified


async def test_delete(storage: Storage) -> None:
    created = await storage.assistants.create(PROJECT, assistant_values())
    await storage.assistants.delete(PROJECT, created.id)
    for attempt in (storage.assistants.get, storage.assistants.delete):
        with pytest.raises(NotFound):
            await attempt(PROJECT, created.id)


async def test_a_project_sees_only_its_own(storage: Storage) -> None:
    created = await storage.assistants.create(PROJECT, assistant_values())
    for attempt in (
        storage.assistants.get(OTHER, created.id),
        storage.assistants.modify(OTHER, created.id, {"name": "Eve"}),
        storage.assistants.delete(OTHER, created.id),
    ):
        with pytest.raises(NotFound) as error:
            await attempt
        assert (error.value.kind, error.value.id) == ("assistant", created.id)
    assert (await storage.assistants.list(OTHER, PageRequest())).data == []
    assert (await storage.assistants.get(PROJECT, created.id)).name == "Ann"
