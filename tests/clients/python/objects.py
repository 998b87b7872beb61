"""Assistants, threads and messages: everything that needs no run."""

from typing import Any, Final

import openai

from tests.clients.python.harness import check, each, first, got, refused, same
from tests.clients.python.scene import FUNCTION, PARAMETERS, TOOL

FORMAT: Final = {
    "type": "json_schema",
    "json_schema": {"name": "weather", "schema": PARAMETERS, "strict": True},
}


@check
async def every_call_on_assistants(client: Any, model: str) -> None:
    beta = client.beta
    created = await got(
        beta.assistants.create(
            model=model,
            name="Guide",
            tools=[TOOL, {"type": "file_search"}],
            response_format=FORMAT,
            temperature=0.5,
            metadata={"a": "b"},
        )
    )
    same(created.tools[0].to_dict(), {**TOOL, "function": {**FUNCTION, "strict": False}})
    same(list(created.tools[0].function.parameters["properties"]), ["unit", "city"])
    same(created.response_format.to_dict(), FORMAT)
    same((created.temperature, created.top_p, created.metadata), (0.5, 1, {"a": "b"}))
    found = await got(beta.assistants.retrieve(created.id))
    same(found.to_dict(), created.to_dict())
    changed = await got(beta.assistants.update(created.id, name="Clerk", metadata={}))
    same((changed.name, changed.metadata, changed.model), ("Clerk", {}, model))
    deleted = await got(beta.assistants.delete(created.id))
    same((deleted.id, deleted.deleted, deleted.object), (created.id, True, "assistant.deleted"))
    await refused(openai.NotFoundError, lambda: beta.assistants.retrieve(created.id))


@check
async def every_call_on_threads_and_messages(client: Any, model: str) -> None:
    beta = client.beta
    thread = await got(beta.threads.create(metadata={"a": "b"}))
    same((await got(beta.threads.retrieve(thread.id))).to_dict(), thread.to_dict())
    changed = await got(beta.threads.update(thread.id, metadata={"c": "d"}))
    same(changed.metadata, {"c": "d"})
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
    ]
    messages = beta.threads.messages
    message = await got(messages.create(thread.id, role="user", content=parts))
    same([part.type for part in message.content], ["text", "image_url"])
    same((message.content[0].text.value, message.content[0].text.annotations), ("Look", []))
    same(message.content[1].to_dict(), parts[1])
    found = await got(messages.retrieve(message.id, thread_id=thread.id))
    same(found.to_dict(), message.to_dict())
    changed = await got(messages.update(message.id, thread_id=thread.id, metadata={"x": "y"}))
    same((changed.metadata, changed.status), ({"x": "y"}, "completed"))
    deleted = await got(messages.delete(message.id, thread_id=thread.id))
    same((deleted.id, deleted.deleted), (message.id, True))
    same((await got(beta.threads.delete(thread.id))).deleted, True)
    await refused(openai.NotFoundError, lambda: beta.threads.retrieve(thread.id))


@check
async def pages(client: Any, model: str) -> None:
    beta = client.beta
    written = ["1", "2", "3", "4", "5"]
    thread = await got(
        beta.threads.create(messages=[{"role": "user", "content": text} for text in written])
    )
    messages = beta.threads.messages

    def texts_of(items: list[Any]) -> list[str]:
        return [item.content[0].text.value for item in items]

    same(texts_of(await each(messages.list(thread.id, limit=2))), written[::-1])
    same(texts_of(await each(messages.list(thread.id, limit=2, order="asc"))), written)
    page = await got(messages.list(thread.id, limit=2, order="asc"))
    same((texts_of(page.data), page.has_more, page.has_next_page()), (["1", "2"], True, True))
    second = await got(page.get_next_page())
    same(texts_of(second.data), ["3", "4"])
    rest = await each(second.iter_pages())
    same([texts_of(page.data) for page in rest], [["3", "4"], ["5"]])
    same((rest[-1].has_more, rest[-1].has_next_page()), (False, False))
    after = page.data[1].id
    same(texts_of(await each(messages.list(thread.id, order="asc", after=after))), written[2:])
    empty = await got(messages.list((await got(beta.threads.create())).id))
    same((empty.data, empty.has_more, await each(empty)), ([], False, []))

    made = [(await got(beta.assistants.create(model=model))).id for _ in range(3)]
    listed = [item.id for item in await first(beta.assistants.list(limit=2), 3)]
    same(listed, made[::-1])
