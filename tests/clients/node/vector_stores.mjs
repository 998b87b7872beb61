// Vector stores: the helpers that upload and poll, and searches.

import assert from "node:assert/strict";

import OpenAI, { toFile } from "openai";

import {
  assistants, client, each, followed, HELLO, messages, POLL, refused, remove, runs, threads,
} from "./scene.mjs";

const FOXES = "Foxes eat berries, mice and beetles.";

function file(name, text) {
  return toFile(Buffer.from(text), name);
}

export async function files_of_vector_stores() {
  const stores = client.vectorStores;
  const store = await stores.create({ name: "n", metadata: { a: "b" } });
  assert.deepEqual([store.status, store.file_counts.total], ["completed", 0]);
  const entry = await stores.files.uploadAndPoll(store.id, await file("a.txt", FOXES), POLL);
  assert.deepEqual([entry.status, entry.last_error], ["completed", null]);
  const found = await each(stores.search(store.id, { query: "What do foxes eat?" }));
  assert.deepEqual(found.map((result) => [result.file_id, result.filename]), [[entry.id, "a.txt"]]);
  assert.equal(found[0].content[0].text, FOXES);
  const listed = await each(stores.files.list(store.id, { filter: "completed" }));
  assert.deepEqual(listed, [entry]);
  assert.equal((await stores.retrieve(store.id)).file_counts.completed, 1);
  const deleted = await remove(stores, store.id);
  assert.deepEqual(deleted, { id: store.id, object: "vector_store.deleted", deleted: true });
  await refused(OpenAI.NotFoundError, () => stores.retrieve(store.id));
}

export async function batches_of_vector_stores() {
  const stores = client.vectorStores;
  const store = await stores.create({ name: "n" });
  const files = [await file("a.txt", FOXES), await file("empty.txt", "")];
  const batch = await stores.fileBatches.uploadAndPoll(store.id, { files, fileIds: [] }, POLL);
  assert.equal(batch.status, "completed");
  assert.deepEqual(batch.file_counts, {
    in_progress: 0, completed: 1, failed: 1, cancelled: 0, total: 2,
  });
}

export async function stream_of_a_search(model) {
  const [stores, mark] = [client.vectorStores, "【1:0†a.txt】"];
  const store = await stores.create({ name: "n" });
  const entry = await stores.files.uploadAndPoll(store.id, await file("a.txt", FOXES), POLL);
  const assistant = await assistants.create({
    model,
    tools: [{ type: "file_search" }],
    tool_resources: { file_search: { vector_store_ids: [store.id] } },
  });
  const thread = await threads.create({ messages: [HELLO] });
  const seen = await followed(runs.stream(thread.id, { assistant_id: assistant.id }));
  assert.equal(seen.run.status, "completed");
  const [call] = seen.given.toolCallCreated;
  const [step] = seen.given.runStepDone;
  const [done] = step.step_details.tool_calls;
  assert.deepEqual([call.id, call.type], [done.id, "file_search"]);
  const [result] = done.file_search.results;
  assert.deepEqual([result.file_id, result.file_name], [entry.id, "a.txt"]);
  const [text] = seen.given.textDone;
  const [annotation] = text.annotations;
  assert.deepEqual([text.value, annotation.text], [`Mice 🐁${mark}.`, mark]);
  // Characters are counted, not the units of JavaScript's strings.
  const { start_index: start, end_index: end } = annotation;
  assert.equal([...text.value].slice(start, end).join(""), mark);
  assert.equal(annotation.file_citation.file_id, entry.id);
  const [stored] = await each(messages.list(thread.id, { run_id: seen.run.id }));
  assert.deepEqual(seen.given.messageDone, [stored]);
}
