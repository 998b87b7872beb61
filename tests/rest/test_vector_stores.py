"""Vector stores through OpenAI's client: files are indexed, searched, and taken out again."""

from typing import Any

import openai
import pytest

from tests.support.rest.wire import Wire
from tests.support.waiting import until

FOXES = b"Foxes eat berries, mice and beetles. They live in dens.\n" * 30
PARIS = b"The capital of France is Paris. It stands on the Seine.\n" * 30


def upload(client: openai.OpenAI, name: str, data: bytes) -> str:
    """Uploads a file; returns its id."""
    return client.files.create(file=(name, data), purpose="assistants").id


def test_a_file_is_indexed_and_searched(client: openai.OpenAI, wire: Wire) -> None:
    stores = client.vector_stores
    store = stores.create(name="Animals", metadata={"a": "b"})
    assert (store.status, store.file_counts.total, store.usage_bytes) == ("completed", 0, 0)
    assert store.last_active_at == store.created_at
    entry = stores.files.upload_and_poll(
        vector_store_id=store.id, file=("foxes.txt", FOXES), attributes={"kind": "animal"}
    )
    assert (entry.status, entry.last_error) == ("completed", None)
    assert entry.attributes == {"kind": "animal"}
    stores.files.upload_and_poll(vector_store_id=store.id, file=("paris.md", PARIS))
    store = stores.retrieve(store.id)
    assert store.file_counts.to_dict() == {
        "in_progress": 0,
        "completed": 2,
        "failed": 0,
        "cancelled": 0,
        "total": 2,
    }
    assert store.usage_bytes > len(FOXES) + len(PARIS)
    found = stores.search(store.id, query="What do foxes eat?").data
    assert found[0].file_id == entry.id
    assert (found[0].filename, found[0].attributes) == ("foxes.txt", {"kind": "animal"})
    assert found[0].content[0].text in FOXES.decode()
    assert 0 < found[0].score <= 1
    assert wire.last.body["search_query"] == ["What do foxes eat?"]
    text = "".join(
        str(part.text) for part in stores.files.content(entry.id, vector_store_id=store.id)
    )
    assert text == FOXES.decode()
    assert stores.files.delete(entry.id, vector_store_id=store.id).deleted
    found = stores.search(store.id, query="What do foxes eat?").data
    assert entry.id not in {each.file_id for each in found}
    assert client.files.retrieve(entry.id).filename == "foxes.txt"
    assert stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        stores.retrieve(store.id)


def test_filters_thresholds_and_several_queries(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    store = stores.create()
    ids = {}
    for name, data, year in (("foxes.txt", FOXES, 2023), ("paris.txt", PARIS, 2024)):
        entry = stores.files.upload_and_poll(
            vector_store_id=store.id,
            file=(name, data),
            attributes={"year": year, "new": year > 2023},
        )
        ids[name] = entry.id

    def found(query: Any = "Foxes in France", **options: Any) -> set[str]:
        return {each.filename for each in stores.search(store.id, query=query, **options)}

    assert found() == {"foxes.txt", "paris.txt"}
    newer: Any = {"type": "gt", "key": "year", "value": 2023}
    assert found(filters=newer) == {"paris.txt"}
    assert found(filters={"type": "and", "filters": [newer]}) == {"paris.txt"}
    assert found(filters={"type": "eq", "key": "new", "value": False}) == {"foxes.txt"}
    assert found(filters={"type": "in", "key": "year", "value": [1, 2]}) == set()
    assert found(["berries", "Seine"], max_num_results=2) == {"foxes.txt", "paris.txt"}
    assert found(max_num_results=1, query="beetles") == {"foxes.txt"}
    assert found(ranking_options={"ranker": "auto", "score_threshold": 1.0}, query="Seine") <= {
        "paris.txt"
    }
    stores.files.update(ids["foxes.txt"], vector_store_id=store.id, attributes={"year": 2025})
    assert found(filters=newer) == {"foxes.txt", "paris.txt"}
    stores.files.update(ids["foxes.txt"], vector_store_id=store.id, attributes=None)
    assert found(filters=newer) == {"paris.txt"}


def test_batches(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    store = stores.create()
    names = ["a.txt", "b.md", "empty.txt"]
    batch = stores.file_batches.upload_and_poll(
        store.id, files=[(name, b"" if "empty" in name else FOXES) for name in names]
    )
    assert (batch.status, batch.file_counts.to_dict()) == (
        "completed",
        {"in_progress": 0, "completed": 2, "failed": 1, "cancelled": 0, "total": 3},
    )
    listed = stores.file_batches.list_files(batch.id, vector_store_id=store.id).data
    assert [each.status for each in listed].count("failed") == 1
    [failed] = stores.file_batches.list_files(
        batch.id, vector_store_id=store.id, filter="failed"
    ).data
    assert failed.last_error is not None
    assert failed.last_error.to_dict() == {
        "code": "invalid_file",
        "message": "The file could not be parsed because it is empty.",
    }
    again = stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert again == stores.file_batches.retrieve(batch.id, vector_store_id=store.id)
    assert again.status == "completed"
    ids = [each.id for each in listed]
    pages = stores.files.list(store.id, limit=2, order="asc")
    assert [each.id for each in pages.data] == ids[:0:-1]
    assert [each.id for each in pages.get_next_page().data] == ids[:1]
    assert [each.id for each in stores.files.list(store.id, before=ids[2]).data] == ids[:2]
    with pytest.raises(openai.BadRequestError, match="'after'"):
        stores.files.list(store.id, after="file-x")


def test_a_batch_is_completed_whose_files_all_failed(client: openai.OpenAI) -> None:
    batches = client.vector_stores.file_batches
    store = client.vector_stores.create()
    batch = batches.upload_and_poll(store.id, files=[("a.txt", b""), ("b.pdf", b"no pdf")])
    assert (batch.status, batch.file_counts.to_dict()) == (
        "completed",
        {"in_progress": 0, "completed": 0, "failed": 2, "cancelled": 0, "total": 2},
    )
    assert client.vector_stores.retrieve(store.id).status == "completed"


def test_tools_take_files_of_any_purpose(client: openai.OpenAI) -> None:
    purposes: list[Any] = ["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
    ids = [client.files.create(file=("foxes.txt", FOXES), purpose=each).id for each in purposes]
    stores = client.vector_stores
    store = stores.create()
    batch = stores.file_batches.create_and_poll(store.id, file_ids=ids)
    assert (batch.status, batch.file_counts.completed) == ("completed", len(purposes))
    found = stores.search(store.id, query="foxes").data
    assert {each.file_id for each in found} == set(ids)
    resources: Any = {"code_interpreter": {"file_ids": ids}}
    thread = client.beta.threads.create(tool_resources=resources)
    assert thread.tool_resources is not None
    assert thread.tool_resources.to_dict() == resources


def test_a_deleted_file_leaves_its_vector_stores(client: openai.OpenAI) -> None:
    file_id = upload(client, "foxes.txt", FOXES)
    stores = [client.vector_stores.create(file_ids=[file_id]) for _ in range(2)]
    assert [(each.status, each.file_counts.in_progress) for each in stores] == [
        ("in_progress", 1)
    ] * 2
    client.files.delete(file_id)
    for each in stores:
        found = client.vector_stores.retrieve(each.id)
        assert (found.status, found.file_counts.total, found.usage_bytes) == ("completed", 0, 0)
        with pytest.raises(openai.NotFoundError, match=f"in vector store '{each.id}'"):
            client.vector_stores.files.retrieve(file_id, vector_store_id=each.id)


def test_a_file_that_is_added_again_is_replaced(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    file_id = upload(client, "foxes.txt", FOXES)
    store = stores.create(file_ids=[file_id])
    entry = stores.files.create_and_poll(
        file_id,
        vector_store_id=store.id,
        attributes={"n": 2},
        chunking_strategy={
            "type": "static",
            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
        },
    )
    assert entry.attributes == {"n": 2.0}
    assert stores.retrieve(store.id).file_counts.to_dict()["total"] == 1
    assert len(stores.search(store.id, query="foxes", max_num_results=50).data) > 3


def test_expiry_is_counted_from_the_last_activity(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    store = stores.create(expires_after={"anchor": "last_active_at", "days": 2})
    assert store.last_active_at is not None
    assert store.expires_at == store.last_active_at + 2 * 86_400
    changed = stores.update(store.id, name=None, expires_after=None)
    assert changed.to_dict()["name"] is None
    assert (changed.expires_at, changed.expires_after) == (None, None)
    changed = stores.update(store.id, expires_after={"anchor": "last_active_at", "days": 1})
    assert changed.expires_at == store.last_active_at + 86_400


async def test_a_search_is_an_activity(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})

    def later() -> bool:
        client.vector_stores.search(store.id, query="anything")
        found = client.vector_stores.retrieve(store.id)
        assert found.last_active_at is not None and found.expires_at is not None
        assert found.expires_at - found.last_active_at == 86_400
        return bool(found.last_active_at > store.created_at)

    await until(later)


@pytest.mark.parametrize("ending", [".png", ".doc"])
def test_files_that_no_parser_reads_are_refused_at_once(client: openai.OpenAI, ending: str) -> None:
    binary = upload(client, f"a{ending}", b"\x89PNG\r\n\x1a\n")
    store = client.vector_stores.create()
    for call in (
        lambda: client.vector_stores.create(file_ids=[binary]),
        lambda: client.vector_stores.file_batches.create(store.id, file_ids=[binary]),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            call()
        assert (refused.value.code, refused.value.param) == ("unsupported_file", "file_ids")
        assert f"[{ending}] are not supported for retrieval" in refused.value.message
    entry = client.vector_stores.files.create_and_poll(binary, vector_store_id=store.id)
    assert entry.status == "failed"
    assert entry.last_error is not None
    assert entry.last_error.code == "unsupported_file"
    assert entry.last_error.message == "The file type is not supported."
    with pytest.raises(openai.BadRequestError, match="status is 'failed'"):
        client.vector_stores.files.content(binary, vector_store_id=store.id)
