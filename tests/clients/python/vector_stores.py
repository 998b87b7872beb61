"""Vector stores: the helpers that upload and poll, searches, and each call besides."""

from typing import Any, Final

import openai

from tests.clients.python.harness import check, each, got, refused, same
from tests.clients.python.scene import HELLO, followed

FOXES: Final = b"Foxes eat berries, mice and beetles."


@check
async def every_call_on_vector_stores(client: Any, model: str) -> None:
    stores = client.vector_stores
    store = await got(stores.create(name="n", metadata={"a": "b"}))
    same((store.status, store.file_counts.total), ("completed", 0))
    changed = await got(stores.update(store.id, name="m"))
    same((changed.name, changed.metadata), ("m", {"a": "b"}))
    same((await got(stores.retrieve(store.id))).to_dict(), changed.to_dict())
    same((await each(stores.list(limit=1)))[0].to_dict()["object"], "vector_store")
    same((await got(stores.delete(store.id))).to_dict(), _deleted(store.id, "vector_store"))
    await refused(openai.NotFoundError, lambda: stores.retrieve(store.id))


@check
async def files_of_vector_stores(client: Any, model: str) -> None:
    stores = client.vector_stores
    files = stores.files
    store = await got(stores.create(name="n"))
    entry = await got(files.upload_and_poll(vector_store_id=store.id, file=("a.txt", FOXES)))
    same((entry.status, entry.last_error, entry.vector_store_id), ("completed", None, store.id))
    found = await each(stores.search(store.id, query="What do foxes eat?"))
    same([(each.file_id, each.filename) for each in found], [(entry.id, "a.txt")])
    same(found[0].content[0].text, FOXES.decode())
    named = {"file_id": entry.id, "vector_store_id": store.id}
    changed = await got(files.update(**named, attributes={"a": "b", "n": 1}))
    same(changed.attributes, {"a": "b", "n": 1})
    same((await got(files.retrieve(**named))).to_dict(), changed.to_dict())
    listed = await each(files.list(store.id, filter="completed"))
    same([each.to_dict() for each in listed], [changed.to_dict()])
    parts = await each(files.content(**named))
    same([(part.type, part.text) for part in parts], [("text", FOXES.decode())])
    filters = {"type": "eq", "key": "n", "value": 2}
    same(await each(stores.search(store.id, query=["foxes", "mice"], filters=filters)), [])
    gone = await got(files.delete(**named))
    same(gone.to_dict(), _deleted(entry.id, "vector_store.file"))


@check
async def stream_of_a_search(client: Any, model: str) -> None:
    stores, mark = client.vector_stores, "【1:0†a.txt】"
    store = await got(stores.create(name="n"))
    entry = await got(stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", FOXES)))
    assistant = await got(
        client.beta.assistants.create(
            model=model,
            tools=[{"type": "file_search"}],
            tool_resources={"file_search": {"vector_store_ids": [store.id]}},
        )
    )
    thread = await got(client.beta.threads.create(messages=[HELLO]))
    ids = {"assistant_id": assistant.id, "thread_id": thread.id}
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    same(run.status, "completed")
    [call] = handler.given("on_tool_call_created")
    [step, _] = handler.given("on_run_step_done")
    [done] = step.step_details.tool_calls
    same((call.id, call.type), (done.id, "file_search"))
    [result] = done.file_search.results
    same((result.file_id, result.file_name, result.content), (entry.id, "a.txt", None))
    [text] = handler.given("on_text_done")
    [annotation] = text.annotations
    same((text.value, annotation.text), (f"Mice 🐁{mark}.", mark))
    same(text.value[annotation.start_index : annotation.end_index], mark)
    same(annotation.file_citation.file_id, entry.id)
    [message] = handler.given("on_message_done")
    [stored] = await each(client.beta.threads.messages.list(thread.id, run_id=run.id))
    same(message.to_dict(), stored.to_dict())
    same([each.text for each in stored.content[0].text.annotations], [mark])


@check
async def batches_of_vector_stores(client: Any, model: str) -> None:
    stores = client.vector_stores
    batches = stores.file_batches
    store = await got(stores.create(name="n"))
    batch = await got(
        batches.upload_and_poll(store.id, files=[("a.txt", FOXES), ("empty.txt", b"")])
    )
    same((batch.status, batch.file_counts.completed), ("completed", 1))
    same(batch.file_counts.failed, 1)
    named = {"batch_id": batch.id, "vector_store_id": store.id}
    same((await got(batches.retrieve(**named))).to_dict(), batch.to_dict())
    same((await got(batches.cancel(**named))).to_dict(), batch.to_dict())
    [failed] = await each(batches.list_files(**named, filter="failed"))
    same((failed.status, failed.last_error.code), ("failed", "invalid_file"))


def _deleted(id: str, kind: str) -> dict[str, Any]:
    return {"id": id, "object": f"{kind}.deleted", "deleted": True}
