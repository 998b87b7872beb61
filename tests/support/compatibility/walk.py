"""A walk over all that the API can say: what tests/compatibility/test_shapes.py looks at.

Each function uses OpenAI's client, whose wire keeps and checks what comes back.
"""

from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs, wait
from tests.support.script import Answer, BreakOff, Calls, Fail, Hold, Refusal, Step

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"z": {"type": "number"}, "a": {"const": None}},
    "required": ["z"],
}
LOOK = function("look")
CONTENTS: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
EVERYTHING: dict[str, Any] = {
    "model": "any",
    "name": "Guide",
    "description": "Guides.",
    "instructions": "Be brief.",
    "tools": [
        {"type": "code_interpreter"},
        {"type": "file_search"},
        *(
            {
                "type": "file_search",
                "file_search": {
                    "max_num_results": 3,
                    "ranking_options": {"ranker": ranker, "score_threshold": 0.5},
                },
            }
            for ranker in ("auto", "default_2024_08_21")
        ),
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "Looks.",
                "parameters": SCHEMA,
                "strict": True,
            },
        },
    ],
    "tool_resources": {"code_interpreter": {}, "file_search": {}},
    "metadata": {"a": "b"},
}
FORMATS: list[Any] = [
    "auto",
    {"type": "text"},
    {"type": "json_object"},
    {
        "type": "json_schema",
        "json_schema": {"name": "n", "description": "d", "schema": SCHEMA, "strict": True},
    },
]


def assistants(client: openai.OpenAI) -> None:
    """Assistants with everything, and with nothing."""
    assistants = client.beta.assistants
    made = [assistants.create(**EVERYTHING, response_format=form) for form in FORMATS]
    bare = assistants.create(model="any")
    assert assistants.list(limit=1).data == [bare]
    assert not assistants.list(order="asc", after=bare.id).data
    assert assistants.update(bare.id, temperature=None, top_p=None).top_p == 1
    assert assistants.retrieve(made[0].id) == made[0]
    for each in (*made, bare):
        assert assistants.delete(each.id).deleted


def files(client: openai.OpenAI) -> None:
    """Files of every purpose, and uploads with either end."""
    after: Any = {"anchor": "created_at", "seconds": 3600}
    purposes: list[Any] = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
    made = [
        client.files.create(file=("a.txt", b"a"), purpose=purpose, expires_after=after)
        for purpose in purposes
    ]
    assert client.files.list(limit=1).data == made[-1:]
    assert not client.files.list(purpose="nothing").data
    for each in made:
        assert client.files.retrieve(each.id) == each
        assert client.files.content(each.id).read() == b"a"
        assert client.files.delete(each.id).deleted
    for end in ("complete", "cancel"):
        upload = client.uploads.create(
            filename="a", bytes=1, mime_type="a/b", purpose="vision", expires_after=after
        )
        part = client.uploads.parts.create(upload.id, data=b"a")
        if end == "cancel":
            client.uploads.cancel(upload.id)
        else:
            client.uploads.complete(upload.id, part_ids=[part.id])


def threads(client: openai.OpenAI) -> None:
    """Threads, and messages that callers make."""
    threads = client.beta.threads
    thread = threads.create(tool_resources=EVERYTHING["tool_resources"])
    assert threads.retrieve(thread.id) == thread
    assert threads.update(thread.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert not threads.messages.list(thread.id).data
    assert not threads.runs.list(thread.id).data
    details = ("auto", "low", "high")
    images = [{"url": "https://example.com/a.png", "detail": detail} for detail in details]
    content: Any = [{"type": "image_url", "image_url": image} for image in images]
    made = threads.messages.create(thread.id, role="user", content=content)
    changed = threads.messages.update(made.id, thread_id=thread.id, metadata={"a": "b"})
    assert threads.messages.retrieve(made.id, thread_id=thread.id) == changed
    assert threads.messages.list(thread.id).data == [changed]
    assert threads.messages.delete(made.id, thread_id=thread.id).deleted
    assert threads.delete(thread.id).deleted


def choices(client: openai.OpenAI, models: ModelServer) -> None:
    """Runs that override what they can, in all forms that there are."""
    named = {"type": "function", "function": {"name": "look"}}
    scene = Scene.create(client, models.script(*[Answer("So.")] * 4), tools=[LOOK])
    client.beta.assistants.update(scene.assistant_id, temperature=None, top_p=None)
    tool_choices: list[Any] = ["none", "auto", "required", named]
    for choice, form in zip(tool_choices, FORMATS, strict=True):
        assert scene.run(tool_choice=choice, response_format=form).temperature == 1
    other = Scene.create(client, models.script(Answer("So.")))
    run = other.run(
        temperature=0.5,
        top_p=0.5,
        max_prompt_tokens=256,
        max_completion_tokens=256,
        truncation_strategy={"type": "last_messages", "last_messages": 1},
        parallel_tool_calls=False,
        tools=EVERYTHING["tools"][-1:],
        metadata={"a": "b"},
    )
    runs = client.beta.threads.runs
    assert runs.update(run.id, thread_id=run.thread_id, metadata={}).metadata == {}


def calls(client: openai.OpenAI, models: ModelServer) -> None:
    """Function calls and their outputs, on streams and without."""
    runs = client.beta.threads.runs
    script = (Calls(("look", {"city": "Paris"}), ("look", {})), Answer("Done.")) * 2
    scene = Scene.create(client, models.script(*script), tools=[LOOK])
    with runs.stream(**scene.ids) as stream:
        stream.until_done()
    run = stream.get_final_run()
    assert (run.status, runs.list(run.thread_id).data) == ("requires_action", [run])
    assert [step.status for step in scene.steps(run)] == ["in_progress"]
    with runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "a", "b")
    ) as answer:
        answer.until_done()
    [first, second] = scene.steps(run)
    assert runs.steps.retrieve(first.id, run_id=run.id, thread_id=run.thread_id) == first
    assert (first.type, second.type) == ("tool_calls", "message_creation")

    run = client.beta.threads.create_and_run(assistant_id=scene.assistant_id)
    run = scene.end_of(run)
    runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "a", "b"))
    assert scene.end_of(run).status == "completed"


def refusal(client: openai.OpenAI, models: ModelServer) -> None:
    """A thread that is created along with its run, in which the model refuses."""
    assistant = client.beta.assistants.create(model=models.script(Refusal("I can't.")))
    with client.beta.threads.create_and_run_stream(assistant_id=assistant.id) as stream:
        stream.until_done()


def ends(client: openai.OpenAI, models: ModelServer) -> None:
    """Runs that end otherwise than well."""
    long = "word " * 1000
    scripts: list[tuple[list[Step], str, dict[str, Any]]] = [
        ([Fail(400)], "failed", {}),
        # The model may be asked again where that may help.
        ([Fail(429)] * 3, "failed", {}),
        ([BreakOff("Half")], "failed", {}),
        ([Answer("Some", finish_reason="content_filter")], "failed", {}),
        ([Answer("Cut sh", finish_reason="length")], "incomplete", {}),
        ([], "incomplete", {"max_prompt_tokens": 256}),
    ]
    for steps, status, given in scripts:
        scene = Scene.create(client, models.script(*steps), long)
        with client.beta.threads.runs.stream(**scene.ids, **given) as stream:
            stream.until_done()
        run = stream.get_final_run()
        assert run.status == status
        scene.steps(run)


def cancelling(client: openai.OpenAI, models: ModelServer) -> None:
    """A run that is cancelled in the middle of its answer."""
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        deltas = iter(stream.text_deltas)
        assert next(deltas)
        run = stream.current_run
        assert run is not None
        client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
        list(deltas)
    wait(hold.disconnected)


def expiry(client: openai.OpenAI, models: ModelServer) -> None:
    """A run whose time is up in the middle of its answer."""
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    assert stream.get_final_run().status == "expired"
    wait(hold.disconnected)


def vector_stores(client: openai.OpenAI) -> None:
    """Vector stores with everything, and files and batches with every end."""
    stores = client.vector_stores
    long = " ".join(f"word{number} stands here." for number in range(50_000)).encode()
    texts = {"a.txt": b"Foxes eat berries.", "empty.txt": b"", "b.png": b"x", "long.txt": long}
    ids = {
        name: client.files.create(file=(name, data), purpose="assistants").id
        for name, data in texts.items()
    }
    after: Any = {"anchor": "last_active_at", "days": 7}
    store = stores.create(
        name="n", metadata={"a": "b"}, expires_after=after, file_ids=[ids["a.txt"]]
    )
    assert store.status == "in_progress"
    assert stores.update(store.id, name=None, expires_after=None).expires_at is None
    bare = stores.create()
    assert stores.list(limit=1).data == [bare]
    assert not stores.list(order="asc", after=bare.id).data
    assert not stores.files.list(bare.id).data
    for name in ("a.txt", "empty.txt", "b.png"):
        stores.files.create_and_poll(
            ids[name], vector_store_id=store.id, attributes={"s": "a", "n": 0.5, "b": True}
        )
    assert {each.status for each in stores.files.list(store.id)} == {"completed", "failed"}
    stores.files.update(ids["a.txt"], vector_store_id=store.id, attributes={"n": 1})
    assert stores.files.content(ids["a.txt"], vector_store_id=store.id).data
    assert stores.search(store.id, query=["berries", "foxes"]).data
    batch = stores.file_batches.create(bare.id, file_ids=[ids["long.txt"]])
    named: Any = {"batch_id": batch.id, "vector_store_id": bare.id}
    assert stores.file_batches.cancel(**named).status == "cancelled"
    assert stores.file_batches.retrieve(**named).file_counts.cancelled == 1
    assert [each.status for each in stores.file_batches.list_files(**named)] == ["cancelled"]
    done = stores.file_batches.create_and_poll(bare.id, file_ids=[ids["a.txt"]])
    assert done.status == "completed"
    assert stores.retrieve(bare.id).status == "completed"
    assert stores.files.delete(ids["a.txt"], vector_store_id=store.id).deleted
    resources: Any = {"code_interpreter": {"file_ids": [ids["a.txt"]]}}
    resources["file_search"] = {"vector_store_ids": [store.id]}
    assistant = client.beta.assistants.create(model="any", tool_resources=resources)
    attached: Any = {"file_id": ids["a.txt"], "tools": [{"type": "file_search"}]}
    attached_to_both: Any = {
        **attached,
        "tools": [{"type": "code_interpreter"}, *attached["tools"]],
    }
    thread = client.beta.threads.create(
        tool_resources=resources,
        messages=[{"role": "user", "content": "Hi", "attachments": [attached_to_both]}],
    )
    [message] = client.beta.threads.messages.list(thread.id).data
    assert message.attachments and message.attachments[0].file_id == ids["a.txt"]
    client.beta.threads.delete(thread.id)
    client.beta.assistants.delete(assistant.id)
    for each in (store, bare):
        assert stores.delete(each.id).deleted


def file_search(client: openai.OpenAI, models: ModelServer) -> None:
    """A run that searches, and cites what it finds; an image of the user."""
    image = client.files.create(file=("a.png", b"\x89PNG\r\n\x1a\n"), purpose="vision")
    file = client.files.create(file=("a.txt", b"Foxes eat berries."), purpose="assistants")
    store = client.vector_stores.create()
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    asked: Any = {"queries": ["What do foxes eat?"]}
    ranking: Any = {"ranker": "auto", "score_threshold": 0.0}
    tools: Any = [
        {"type": "file_search"},
        {"type": "file_search", "file_search": {"max_num_results": 3, "ranking_options": ranking}},
    ]
    model = models.script(Calls(("file_search", asked)), Answer("Berries【1:0†a.txt】."))
    scene = Scene.create(
        client,
        model,
        tools=tools[:1],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    )
    shown: Any = [
        {"type": "image_file", "image_file": {"file_id": image.id, "detail": detail}}
        for detail in ("low", "high", "auto")
    ]
    client.beta.threads.messages.create(scene.thread_id, role="user", content=shown)
    chosen: Any = {"tools": tools, "tool_choice": {"type": "file_search"}}
    with client.beta.threads.runs.create(
        **scene.ids, **chosen, stream=True, include=CONTENTS
    ) as stream:
        assert list(stream)[-1].event == "thread.run.completed"
    [message] = client.beta.threads.messages.list(scene.thread_id, limit=1).data
    assert message.run_id
    named: Any = {"run_id": message.run_id, "thread_id": scene.thread_id}
    both: list[Any] = [CONTENTS, []]
    for include in both:
        assert len(client.beta.threads.runs.steps.list(**named, include=include).data) == 2


def errors(client: openai.OpenAI) -> None:
    """Errors with and without a parameter and a code."""
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.retrieve("thread_x")
    with pytest.raises(openai.BadRequestError):
        client.beta.assistants.list(limit=0)
