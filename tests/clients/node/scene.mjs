// What most checks begin with, and how they follow a run.

import assert from "node:assert/strict";

import OpenAI, { AzureOpenAI } from "openai";
import { VERSION } from "openai/version";

export const config = JSON.parse(process.argv[2]);
const GIVEN = { apiKey: "none", maxRetries: 0 };
const AZURE = { endpoint: config.base_url.replace(/\/v1$/, ""), apiVersion: "2024-05-01-preview" };
export const MODES = {
  async: () => new OpenAI({ ...GIVEN, baseURL: config.base_url }),
  azure: () => new AzureOpenAI({ ...GIVEN, ...AZURE }),
};
export let client, assistants, threads, messages, runs;

/** Makes the client of a mode the one that all checks use. */
export function connect(mode) {
  client = MODES[mode]();
  ({ assistants, threads } = client.beta);
  ({ messages, runs } = threads);
}

export const PARAMETERS = {
  type: "object",
  properties: { unit: { enum: ["c", "f"] }, city: { type: "string", maxLength: 100 } },
  required: ["city"],
};
export const FUNCTION = { name: "get_weather", description: "Looks.", parameters: PARAMETERS };
export const TOOL = { type: "function", function: FUNCTION };
export const FORMAT = {
  type: "json_schema",
  json_schema: { name: "weather", schema: PARAMETERS, strict: true },
};
export const HELLO = { role: "user", content: "Hello" };
export const TEXT = "Hello there, 世界!";
export const POLL = { pollIntervalMs: 20 };

export const BEGIN = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"];
export const STEP = ["thread.run.step.created", "thread.run.step.in_progress"];
export const ANSWER = [
  ...STEP,
  "thread.message.created",
  "thread.message.in_progress",
  "thread.message.delta",
  "thread.message.completed",
  "thread.run.step.completed",
  "thread.run.completed",
];
export const CALLS = [...BEGIN, ...STEP, "thread.run.step.delta", "thread.run.requires_action"];
export const RESUMED = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"];

export const NOTED = [
  "textCreated", "textDelta", "textDone", "messageCreated", "messageDelta", "messageDone",
  "runStepCreated", "runStepDelta", "runStepDone", "toolCallCreated", "toolCallDelta",
  "toolCallDone", "imageFileDone", "error", "abort", "end",
];

// What differs between the releases: since 5.0 the ids of parents are named, and `del` is `delete`.
export const old = VERSION.startsWith("4.");

/** The arguments that name something of a thread, and those of its call. */
export function at(threadId, id, given) {
  if (!old) return [id, { thread_id: threadId, ...given }];
  return given ? [threadId, id, given] : [threadId, id];
}

/** The arguments that name something of a vector store, and those of its call. */
export function inStore(storeId, id, given) {
  if (!old) return [id, { vector_store_id: storeId, ...given }];
  return given ? [storeId, id, given] : [storeId, id];
}

/** Deletes something by the arguments that name it. */
export function remove(resource, ...named) {
  return old ? resource.del(...named) : resource.delete(...named);
}

/** Returns all that can be walked through, or so many. */
export async function each(items, limit = Infinity) {
  const found = [];
  for await (const item of items) {
    found.push(item);
    if (found.length === limit) break;
  }
  return found;
}

/** Returns the names with each row of equal ones shown as one. */
export function folded(names) {
  return names.filter((name, at) => name !== names[at - 1]);
}

/** Creates an assistant and a thread; returns the arguments that start a run of them. */
export async function scene(model) {
  const assistant = await assistants.create({ model, tools: [TOOL] });
  const thread = await threads.create({ messages: [HELLO] });
  return [thread.id, { assistant_id: assistant.id }];
}

/** Returns the texts of a thread's messages, oldest first. */
export async function texts(threadId) {
  const found = await each(messages.list(threadId, { order: "asc" }));
  return found.map((message) => message.content[0].text.value);
}

/** Returns outputs for the run's pending calls, of which there are two. */
export function outputs(run) {
  const calls = run.required_action.submit_tool_outputs.tool_calls;
  const given = calls.map((call) => call.function.arguments);
  assert.deepEqual(given, ['{"city": "Paris"}', '{"city": "Rome"}']);
  return calls.map((call) => ({ tool_call_id: call.id, output: "sunny" }));
}

/**
 * Follows a stream to its end. Returns its `run`, the folded names of its `events` and of the `hooks`
 * that were called, and the first arguments `given` to each of these.
 */
export async function followed(stream) {
  const seen = { stream, events: [], hooks: [], given: {} };
  stream.on("event", (event) => seen.events.push(event.event));
  for (const name of NOTED) {
    seen.given[name] = [];
    stream.on(name, (...given) => {
      seen.hooks.push(name);
      // Snapshots go on changing.
      seen.given[name].push(structuredClone(given[0]));
    });
  }
  await stream.done();
  seen.events = folded(seen.events);
  seen.hooks = folded(seen.hooks);
  seen.run = await stream.finalRun();
  const stored = await runs.retrieve(...at(seen.run.thread_id, seen.run.id));
  assert.deepEqual(seen.run, stored);
  return seen;
}

/** Returns the error of a call that must fail. */
export async function refused(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error}`);
    return error;
  }
  return assert.fail("it was not refused");
}

/** Cancels a run and waits until it is. */
export async function cancel(run) {
  await runs.cancel(...at(run.thread_id, run.id));
  const ended = old
    ? await runs.poll(run.thread_id, run.id, POLL)
    : await runs.poll(run.id, { thread_id: run.thread_id }, POLL);
  assert.equal(ended.status, "cancelled");
}
