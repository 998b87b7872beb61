"""Streams of runs, by the client's helpers and without them."""

from typing import Any

from tests.clients.python.harness import check, each, entered, first, folded, got, same, walk
from tests.clients.python.scene import (
    ANSWER,
    BEGIN,
    CALLS,
    HELLO,
    RESUMED,
    TEXT,
    cancel,
    followed,
    outputs,
    recorder,
    scene,
    texts,
)


@check
async def stream(client: Any, model: str) -> None:
    ids = await scene(client, model)
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    same(handler.names, [*BEGIN, *ANSWER])
    begin = ["run_step_created", "message_created", "text_created", "text_delta", "message_delta"]
    same(handler.hooks[:5], begin)
    same(handler.hooks[-3:], ["text_done", "message_done", "run_step_done"])
    same("".join(delta.value for delta in handler.given("on_text_delta")), TEXT)
    same([text.value for text in handler.given("on_text_done")], [TEXT])
    same(run.status, "completed")
    [message] = await got(handler.get_final_messages())
    stored = await each(client.beta.threads.messages.list(run.thread_id, run_id=run.id))
    same([message.to_dict()], [found.to_dict() for found in stored])
    [step] = await got(handler.get_final_run_steps())
    same(step.step_details.message_creation.message_id, message.id)


@check
async def stream_of_a_new_thread(client: Any, model: str) -> None:
    assistant = await got(client.beta.assistants.create(model=model))
    run, handler = await followed(
        client,
        client.beta.threads.create_and_run_stream,
        assistant_id=assistant.id,
        thread={"messages": [HELLO]},
    )
    same(handler.names, ["thread.created", *BEGIN, *ANSWER])
    same(await texts(client, run.thread_id), ["Hello", TEXT])


@check
async def stream_of_calls(client: Any, model: str) -> None:
    runs = client.beta.threads.runs
    run, handler = await followed(client, runs.stream, **await scene(client, model))
    same((run.status, handler.names), ("requires_action", CALLS))
    created = handler.given("on_tool_call_created")
    same([call.function.name for call in created], ["get_weather", "get_weather"])
    done = [call.function.arguments for call in handler.given("on_tool_call_done")]
    same(done, ['{"city": "Paris"}', '{"city": "Rome"}'])
    deltas = handler.given("on_tool_call_delta")
    same("".join(delta.function.arguments for delta in deltas), "".join(done))
    run, handler = await followed(
        client,
        runs.submit_tool_outputs_stream,
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=outputs(run),
    )
    same((run.status, handler.names), ("completed", [*RESUMED, *ANSWER]))
    [step, _] = handler.given("on_run_step_done")
    same([call.function.output for call in step.step_details.tool_calls], ["sunny", "sunny"])
    same(await texts(client, run.thread_id), ["Hello", "Sunny."])


@check
async def stream_of_a_refusal(client: Any, model: str) -> None:
    ids = await scene(client, model)
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    [message] = handler.given("on_message_done")
    part = message.content[0]
    same((run.status, part.type, part.refusal), ("completed", "refusal", "I would rather not."))


@check
async def stream_of_a_failure(client: Any, model: str) -> None:
    ids = await scene(client, model)
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    same((run.status, handler.names), ("failed", [*BEGIN, "thread.run.failed"]))
    same((run.last_error.code, run.last_error.message), ("invalid_prompt", "Too hot."))


@check
async def stream_of_half_an_answer(client: Any, model: str) -> None:
    ids = await scene(client, model)
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    same((run.status, run.last_error.code), ("failed", "server_error"))
    same(handler.hooks[-3:], ["text_done", "message_done", "run_step_done"])
    [message] = handler.given("on_message_done")
    same((message.status, message.content[0].text.value), ("incomplete", "Half an ans"))
    [step] = handler.given("on_run_step_done")
    same((step.status, step.last_error.code), ("failed", "server_error"))


@check
async def stream_of_an_incomplete_answer(client: Any, model: str) -> None:
    ids = await scene(client, model)
    run, handler = await followed(client, client.beta.threads.runs.stream, **ids)
    same((run.status, run.incomplete_details.reason), ("incomplete", "max_completion_tokens"))
    [message] = handler.given("on_message_done")
    same((message.status, message.content[0].text.value), ("incomplete", "Cut sh"))


@check
async def stream_of_a_cancelled_run(client: Any, model: str) -> None:
    runs = client.beta.threads.runs
    streamed = ""
    async with entered(runs.stream(**await scene(client, model))) as stream:
        async for delta in walk(stream.text_deltas):
            streamed += delta
            if streamed == "Hello":
                run = stream.current_run
                run = await got(runs.cancel(run.id, thread_id=run.thread_id))
                same(run.status, "cancelling")
        run = await got(stream.get_final_run())
    same((streamed, run.status), ("Hello", "cancelled"))


@check
async def stream_that_is_left(client: Any, model: str) -> None:
    runs = client.beta.threads.runs
    async with entered(runs.stream(**await scene(client, model))) as stream:
        [delta] = await first(stream.text_deltas, 1)
        run = stream.current_run
    run = await got(runs.retrieve(run.id, thread_id=run.thread_id))
    same((delta, run.status), ("Hell", "in_progress"))
    await cancel(client, run)


@check
async def text_deltas(client: Any, model: str) -> None:
    async with entered(client.beta.threads.runs.stream(**await scene(client, model))) as stream:
        same("".join(await each(stream.text_deltas)), TEXT)


@check
async def timeout(client: Any, model: str) -> None:
    handler = recorder(client)
    # Time for the run to begin: the answer stops before its end, however late.
    runs = client.with_options(timeout=0.5).beta.threads.runs
    try:
        ids = await scene(client, model)
        async with entered(runs.stream(**ids, event_handler=handler)) as stream:
            await got(stream.until_done())
    except Exception as error:
        same(handler.hooks[-2:], ["timeout", "exception"])
        same(handler.given("on_exception"), [error])
    else:
        raise AssertionError("no timeout")
    await cancel(client, handler.current_run)


@check
async def plain_events(client: Any, model: str) -> None:
    beta = client.beta
    ids = await scene(client, model)
    events = await each(await got(beta.threads.runs.create(**ids, stream=True)))
    same(folded([event.event for event in events]), [*BEGIN, *ANSWER])
    events = await each(
        await got(
            beta.threads.create_and_run(
                assistant_id=ids["assistant_id"],
                thread={"messages": [HELLO]},
                stream=True,
            )
        )
    )
    same(folded([event.event for event in events]), ["thread.created", *CALLS])
    run = events[-1].data
    answer = await got(
        beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=outputs(run), stream=True
        )
    )
    events = await each(answer)
    same(folded([event.event for event in events]), [*RESUMED, *ANSWER])
