"""Runs without streams: the polling helpers, runs and steps as resources."""

from typing import Any

from tests.clients.python.harness import check, each, got, same
from tests.clients.python.scene import HELLO, POLL, TEXT, outputs, scene, texts


@check
async def polling(client: Any, model: str) -> None:
    ids = await scene(client, model)
    run = await got(client.beta.threads.runs.create_and_poll(**ids, poll_interval_ms=POLL))
    same((run.status, run.usage.total_tokens, run.temperature), ("completed", 25, 1))
    same(await texts(client, run.thread_id), ["Hello", TEXT])


@check
async def polling_a_new_thread(client: Any, model: str) -> None:
    assistant = await got(client.beta.assistants.create(model=model))
    run = await got(
        client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [HELLO]},
            poll_interval_ms=POLL,
        )
    )
    same((run.status, await texts(client, run.thread_id)), ("completed", ["Hello", TEXT]))


@check
async def polling_calls(client: Any, model: str) -> None:
    runs = client.beta.threads.runs
    ids = await scene(client, model)
    run = await got(runs.create_and_poll(**ids, poll_interval_ms=POLL))
    same((run.status, run.required_action.type), ("requires_action", "submit_tool_outputs"))
    run = await got(
        runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=run.thread_id,
            tool_outputs=outputs(run),
            poll_interval_ms=POLL,
        )
    )
    same((run.status, await texts(client, run.thread_id)), ("completed", ["Hello", "Sunny."]))


@check
async def every_call_on_runs_and_steps(client: Any, model: str) -> None:
    runs = client.beta.threads.runs
    ids = await scene(client, model)
    run = await got(
        runs.create(
            **ids,
            additional_instructions="Hurry.",
            additional_messages=[{"role": "user", "content": "Now!"}],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            parallel_tool_calls=True,
            truncation_strategy={"type": "last_messages", "last_messages": 3},
            metadata={"a": "b"},
            include=["step_details.tool_calls[*].file_search.results[*].content"],
        )
    )
    same((run.status, run.instructions, run.metadata), ("queued", "Hurry.", {"a": "b"}))
    same(run.tool_choice.function.name, "get_weather")
    same(run.truncation_strategy.last_messages, 3)
    run = await got(runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=POLL))
    changed = await got(runs.update(run.id, thread_id=run.thread_id, metadata={"c": "d"}))
    same((changed.metadata, changed.status), ({"c": "d"}, "requires_action"))
    given = {"run_id": run.id, "thread_id": run.thread_id, "tool_outputs": outputs(run)}
    same((await got(runs.submit_tool_outputs(**given))).status, "queued")
    run = await got(runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=POLL))
    listed = await each(runs.list(run.thread_id, limit=1))
    same([found.to_dict() for found in listed], [run.to_dict()])

    steps = await each(runs.steps.list(run.id, thread_id=run.thread_id, limit=1, order="asc"))
    same([step.type for step in steps], ["tool_calls", "message_creation"])
    calls = steps[0].step_details.tool_calls
    same([call.function.output for call in calls], ["sunny", "sunny"])
    for step in steps:
        found = await got(runs.steps.retrieve(step.id, run_id=run.id, thread_id=run.thread_id))
        same(found.to_dict(), step.to_dict())
