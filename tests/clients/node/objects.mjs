// Assistants, threads and messages: everything that needs no run.

import assert from "node:assert/strict";

import OpenAI from "openai";

import {
  assistants, at, each, FORMAT, FUNCTION, messages, refused, remove, threads, TOOL,
} from "./scene.mjs";

export async function every_call_on_assistants(model) {
  const created = await assistants.create({
    model,
    name: "Guide",
    tools: [TOOL, { type: "file_search" }],
    response_format: FORMAT,
    temperature: 0.5,
    metadata: { a: "b" },
  });
  assert.deepEqual(created.tools[0], { ...TOOL, function: { ...FUNCTION, strict: false } });
  assert.deepEqual(Object.keys(created.tools[0].function.parameters.properties), ["unit", "city"]);
  assert.deepEqual(created.response_format, FORMAT);
  assert.deepEqual([created.temperature, created.top_p, created.metadata], [0.5, 1, { a: "b" }]);
  assert.deepEqual(await assistants.retrieve(created.id), created);
  const changed = await assistants.update(created.id, { name: "Clerk", metadata: {} });
  assert.deepEqual([changed.name, changed.metadata, changed.model], ["Clerk", {}, model]);
  const deleted = await remove(assistants, created.id);
  assert.deepEqual(deleted, { id: created.id, object: "assistant.deleted", deleted: true });
  await refused(OpenAI.NotFoundError, () => assistants.retrieve(created.id));
}

export async function every_call_on_threads_and_messages() {
  const thread = await threads.create({ metadata: { a: "b" } });
  assert.deepEqual(await threads.retrieve(thread.id), thread);
  const renamed = await threads.update(thread.id, { metadata: { c: "d" } });
  assert.deepEqual(renamed.metadata, { c: "d" });
  const content = [
    { type: "text", text: "Look" },
    { type: "image_url", image_url: { url: "https://example.org/a.png", detail: "low" } },
  ];
  const message = await messages.create(thread.id, { role: "user", content });
  const text = { type: "text", text: { value: "Look", annotations: [] } };
  assert.deepEqual(message.content, [text, content[1]]);
  assert.deepEqual(await messages.retrieve(...at(thread.id, message.id)), message);
  const changed = await messages.update(...at(thread.id, message.id, { metadata: { x: "y" } }));
  assert.deepEqual([changed.metadata, changed.status], [{ x: "y" }, "completed"]);
  const deleted = await remove(messages, ...at(thread.id, message.id));
  assert.deepEqual([deleted.id, deleted.deleted], [message.id, true]);
  assert.equal((await remove(threads, thread.id)).deleted, true);
  await refused(OpenAI.NotFoundError, () => threads.retrieve(thread.id));
}

export async function pages(model) {
  const written = ["1", "2", "3", "4", "5"];
  const given = written.map((content) => ({ role: "user", content }));
  const thread = await threads.create({ messages: given });
  const textsOf = (items) => items.map((item) => item.content[0].text.value);
  assert.deepEqual(textsOf(await each(messages.list(thread.id, { limit: 2 }))), written.toReversed());
  const page = await messages.list(thread.id, { limit: 2, order: "asc" });
  assert.deepEqual([textsOf(page.data), page.has_more], [["1", "2"], true]);
  assert.equal(page.hasNextPage(), true);
  assert.deepEqual(textsOf(await each(page)), written);
  const second = await page.getNextPage();
  assert.deepEqual(textsOf(second.data), ["3", "4"]);
  const rest = await each(second.iterPages());
  assert.deepEqual(rest.map((one) => textsOf(one.data)), [["3", "4"], ["5"]]);
  assert.equal(rest[1].hasNextPage(), false);
  const empty = await messages.list((await threads.create()).id);
  assert.deepEqual([empty.data, empty.hasNextPage(), await each(empty)], [[], false, []]);

  const made = [];
  for (const _ of written) made.unshift((await assistants.create({ model })).id);
  const listed = await each(assistants.list({ limit: 2 }), written.length);
  assert.deepEqual(listed.map((assistant) => assistant.id), made);
}
