// Streams of runs, by the client's helpers and without them.

import assert from "node:assert/strict";

import OpenAI from "openai";
import { AssistantStream } from "openai/lib/AssistantStream";

import {
  ANSWER, assistants, at, BEGIN, CALLS, cancel, each, folded, followed, HELLO, messages, old,
  outputs, refused, RESUMED, runs, scene, TEXT, texts, threads,
} from "./scene.mjs";

export async function stream(model) {
  const seen = await followed(runs.stream(...(await scene(model))));
  assert.deepEqual(seen.events, [...BEGIN, ...ANSWER]);
  const begin = ["runStepCreated", "textCreated", "messageDelta", "textDelta"];
  assert.deepEqual(seen.hooks.filter((name) => name !== "messageCreated").slice(0, 4), begin);
  assert.deepEqual(seen.hooks.slice(-4), ["textDone", "messageDone", "runStepDone", "end"]);
  assert.equal(seen.given.textDelta.map((delta) => delta.value).join(""), TEXT);
  assert.deepEqual(seen.given.textDone.map((text) => text.value), [TEXT]);
  assert.equal(seen.run.status, "completed");
  const [message] = await seen.stream.finalMessages();
  assert.equal(message.content[0].text.value, TEXT);
  const [stored] = await each(messages.list(seen.run.thread_id, { run_id: seen.run.id }));
  assert.deepEqual(seen.given.messageDone, [stored]);
  const [step] = await seen.stream.finalRunSteps();
  assert.equal(step.step_details.message_creation.message_id, message.id);
}

export async function stream_of_a_new_thread(model) {
  const assistant = await assistants.create({ model });
  const body = { assistant_id: assistant.id, thread: { messages: [HELLO] } };
  const seen = await followed(threads.createAndRunStream(body));
  assert.deepEqual(seen.events, ["thread.created", ...BEGIN, ...ANSWER]);
  assert.deepEqual(await texts(seen.run.thread_id), ["Hello", TEXT]);
}

export async function stream_of_calls(model) {
  const first = await followed(runs.stream(...(await scene(model))));
  const run = first.run;
  assert.deepEqual([run.status, first.events], ["requires_action", CALLS]);
  const created = first.given.toolCallCreated.map((call) => call.function.name);
  assert.deepEqual(created, ["get_weather", "get_weather"]);
  const done = first.given.toolCallDone.map((call) => call.function.arguments);
  assert.deepEqual(done, ['{"city": "Paris"}', '{"city": "Rome"}']);
  const deltas = first.given.toolCallDelta.map((delta) => delta.function.arguments);
  assert.equal(deltas.join(""), done.join(""));
  const given = at(run.thread_id, run.id, { tool_outputs: outputs(run) });
  const seen = await followed(runs.submitToolOutputsStream(...given));
  assert.deepEqual([seen.run.status, seen.events], ["completed", [...RESUMED, ...ANSWER]]);
  const [step] = seen.given.runStepDone;
  const filled = step.step_details.tool_calls.map((call) => call.function.output);
  assert.deepEqual(filled, ["sunny", "sunny"]);
  assert.deepEqual(await texts(run.thread_id), ["Hello", "Sunny."]);
}

export async function stream_of_a_refusal(model) {
  const { run, given } = await followed(runs.stream(...(await scene(model))));
  const part = { type: "refusal", refusal: "I would rather not." };
  assert.deepEqual([run.status, given.messageDone[0].content], ["completed", [part]]);
}

export async function stream_of_a_failure(model) {
  const { run, events } = await followed(runs.stream(...(await scene(model))));
  assert.deepEqual([run.status, events], ["failed", [...BEGIN, "thread.run.failed"]]);
  assert.deepEqual(run.last_error, { code: "invalid_prompt", message: "Too hot." });
}

export async function stream_of_half_an_answer(model) {
  const { run, given, hooks } = await followed(runs.stream(...(await scene(model))));
  assert.deepEqual([run.status, run.last_error.code], ["failed", "server_error"]);
  assert.deepEqual(hooks.slice(-4), ["textDone", "messageDone", "runStepDone", "end"]);
  const [message] = given.messageDone;
  assert.deepEqual([message.status, message.content[0].text.value], ["incomplete", "Half an ans"]);
  assert.equal(given.runStepDone[0].status, "failed");
}

export async function stream_of_an_incomplete_answer(model) {
  const stream = runs.stream(...(await scene(model)));
  let message;
  stream.on("messageDone", (done) => (message = done));
  // No release of 4.x takes thread.run.incomplete for an end.
  if (old) await refused(OpenAI.OpenAIError, () => stream.done());
  else assert.equal((await stream.finalRun()).status, "incomplete");
  assert.deepEqual(stream.currentRun().incomplete_details, { reason: "max_completion_tokens" });
  assert.deepEqual([message.status, message.content[0].text.value], ["incomplete", "Cut sh"]);
}

export async function stream_of_a_cancelled_run(model) {
  const stream = runs.stream(...(await scene(model)));
  let streamed = "";
  stream.on("textDelta", async (delta) => {
    streamed += delta.value;
    if (streamed !== "Hello") return;
    const run = stream.currentRun();
    await runs.cancel(...at(run.thread_id, run.id));
  });
  const { run, events } = await followed(stream);
  assert.deepEqual([streamed, run.status], ["Hello", "cancelled"]);
  assert.deepEqual(events.slice(-4), [
    "thread.run.cancelling",
    "thread.message.incomplete",
    "thread.run.step.cancelled",
    "thread.run.cancelled",
  ]);
}

export async function stream_that_is_left(model) {
  const stream = runs.stream(...(await scene(model)));
  stream.on("textDelta", () => stream.abort());
  await refused(OpenAI.APIUserAbortError, () => stream.done());
  const run = stream.currentRun();
  const stored = await runs.retrieve(...at(run.thread_id, run.id));
  assert.equal(stored.status, "in_progress");
  await cancel(run);
}

export async function readable_stream(model) {
  const stream = runs.stream(...(await scene(model)));
  const { events } = await followed(AssistantStream.fromReadableStream(stream.toReadableStream()));
  assert.deepEqual(events, [...BEGIN, ...ANSWER]);
}

export async function plain_events(model) {
  const [threadId, ids] = await scene(model);
  const names = async (stream) => folded((await each(stream)).map((event) => event.event));
  const answer = await runs.create(threadId, { ...ids, stream: true });
  assert.deepEqual(await names(answer), [...BEGIN, ...ANSWER]);
  const body = { ...ids, thread: { messages: [HELLO] }, stream: true };
  const events = await each(await threads.createAndRun(body));
  assert.deepEqual(folded(events.map((event) => event.event)), ["thread.created", ...CALLS]);
  const run = events.at(-1).data;
  const given = { tool_outputs: outputs(run), stream: true };
  const resumed = await runs.submitToolOutputs(...at(run.thread_id, run.id, given));
  assert.deepEqual(await names(resumed), [...RESUMED, ...ANSWER]);
}
