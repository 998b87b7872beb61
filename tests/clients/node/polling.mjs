// Runs without streams: the polling helpers, runs and steps as resources.

import assert from "node:assert/strict";

import {
  assistants, at, each, HELLO, messages, old, outputs, POLL, runs, scene, TEXT, texts, threads,
} from "./scene.mjs";

export async function polling(model) {
  const run = await runs.createAndPoll(...(await scene(model)), POLL);
  assert.deepEqual([run.status, run.usage.total_tokens], ["completed", 25]);
  assert.deepEqual(await texts(run.thread_id), ["Hello", TEXT]);
}

export async function polling_a_new_thread(model) {
  const assistant = await assistants.create({ model });
  const body = { assistant_id: assistant.id, thread: { messages: [HELLO] } };
  const run = await threads.createAndRunPoll(body, POLL);
  assert.equal(run.status, "completed");
  assert.deepEqual(await texts(run.thread_id), ["Hello", TEXT]);
}

export async function polling_calls(model) {
  const run = await runs.createAndPoll(...(await scene(model)), POLL);
  assert.equal(run.status, "requires_action");
  const given = at(run.thread_id, run.id, { tool_outputs: outputs(run) });
  const ended = await runs.submitToolOutputsAndPoll(...given, POLL);
  assert.equal(ended.status, "completed");
  assert.deepEqual(await texts(run.thread_id), ["Hello", "Sunny."]);
}

export async function every_call_on_runs_and_steps(model) {
  const [threadId, ids] = await scene(model);
  const queued = await runs.create(threadId, {
    ...ids,
    additional_instructions: "Hurry.",
    additional_messages: [{ role: "user", content: "Now!" }],
    tool_choice: { type: "function", function: { name: "get_weather" } },
    truncation_strategy: { type: "last_messages", last_messages: 3 },
    metadata: { a: "b" },
    include: ["step_details.tool_calls[*].file_search.results[*].content"],
  });
  const { status, instructions, metadata, truncation_strategy } = queued;
  assert.deepEqual([status, instructions, metadata], ["queued", "Hurry.", { a: "b" }]);
  assert.equal(truncation_strategy.last_messages, 3);
  const poll = () => runs.poll(...at(threadId, queued.id), POLL);
  const waiting = await poll();
  const changed = await runs.update(...at(threadId, queued.id, { metadata: { c: "d" } }));
  assert.deepEqual([changed.metadata, changed.status], [{ c: "d" }, "requires_action"]);
  const given = { tool_outputs: outputs(waiting) };
  const resumed = await runs.submitToolOutputs(...at(threadId, queued.id, given));
  assert.equal(resumed.status, "queued");
  const run = await poll();
  assert.deepEqual(await each(runs.list(threadId, { limit: 1 })), [run]);
  const query = { limit: 1, order: "asc" };
  const steps = await each(runs.steps.list(...at(threadId, run.id, query)));
  assert.deepEqual(steps.map((step) => step.type), ["tool_calls", "message_creation"]);
  for (const step of steps) {
    const named = old ? [threadId, run.id, step.id] : [step.id, { thread_id: threadId, run_id: run.id }];
    assert.deepEqual(await runs.steps.retrieve(...named), step);
  }
}
