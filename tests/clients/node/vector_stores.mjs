// Vector stores: the helpers that upload and poll, searches, and each call besides.

import assert from "node:assert/strict";

import OpenAI, { toFile } from "openai";

import {
  assistants, client, each, followed, HELLO, inStore, messages, POLL, refused, remove, runs, threads,
} from "./scene.mjs";

const FOXES = "Foxes eat berries, mice and beetles.";

function file(name, text) {
  return toFile(Buffer.from(text), name);
}

export async function every_call_on_vector_stores() {
  const stores = client.vectorStores;
  const store = await stores.create({ name: "n", metadata: { a: "b" } });
  assert.deepEqual([store.status, store.file_counts.total], ["completed", 0]);
  const changed = await stores.update(store.id, { name: "m" });
  assert.deepEqual([changed.name, changed.metadata], ["m", { a: "b" }]);
  assert.deepEqual(await stores.retrieve(store.id), changed);
  assert.deepEqual(await each(stores.list({ limit: 1 }), 1), [changed]);
  const deleted = await remove(stores, store.id);
  assert.deepEqual(deleted, { id: store.id, object: "vector_store.deleted", deleted: true });
  await refused(OpenAI.NotFoundError, () => stores.retrieve(store.id));
}

export async function files_of_vector_stores() {
  const stores = client.vectorStores;
  const { files } = stores;
  const store = await stores.create({ name: "n" });
  const entry = await files.uploadAndPoll(store.id, await file("a.txt", FOXES), POLL);
  assert.deepEqual([entry.status, entry.last_error], ["completed", null]);
  const found = await each(stores.search(store.id, { query: "What do foxes eat?" }));
  assert.deepEqual(found.map((result) => [result.file_id, result.filename]), [[entry.id, "a.txt"]]);
  assert.equal(found[0].content[0].text, FOXES);
  const attributes = { a: "b", n: 1 };
  const changed = await files.update(...inStore(store.id, entry.id, { attributes }));
  assert.deepEqual(changed, { ...entry, attributes });
  assert.deepEqual(await files.retrieve(...inStore(store.id, entry.id)), changed);
  const listed = await each(files.list(store.id, { filter: "completed" }));
  assert.deepEqual(listed, [changed]);
  const parts = await each(files.content(...inStore(store.id, entry.id)));
  assert.deepEqual(parts, [{ type: "text", text: FOXES }]);
  const again = await files.create(store.id, { file_id: entry.id, attributes: { n: 2 } });
  assert.deepEqual([again.id, again.status, again.attributes], [entry.id, "in_progress", { n: 2 }]);
  assert.equal((await files.poll(store.id, entry.id, POLL)).status, "completed");
  assert.equal((await stores.retrieve(store.id)).file_counts.completed, 1);
  const deleted = await remove(files, ...inStore(store.id, entry.id));
  assert.deepEqual(deleted, { id: entry.id, object: "vector_store.file.deleted", deleted: true });
  await refused(OpenAI.NotFoundError, () => files.retrieve(...inStore(store.id, entry.id)));
}

export async function batches_of_vector_stores() {
  const { files, vectorStores: stores } = client;
  const batches = stores.fileBatches;
  const store = await stores.create({ name: "n" });
  const given = [await file("a.txt", FOXES), await file("empty.txt", "")];
  const batch = await batches.uploadAndPoll(store.id, { files: given, fileIds: [] }, POLL);
  assert.equal(batch.status, "completed");
  assert.deepEqual(batch.file_counts, {
    in_progress: 0, completed: 1, failed: 1, cancelled: 0, total: 2,
  });
  assert.deepEqual(await batches.retrieve(...inStore(store.id, batch.id)), batch);
  // One that has ended stays as it is.
  assert.deepEqual(await batches.cancel(...inStore(store.id, batch.id)), batch);
  const query = { filter: "failed" };
  const [failed] = await each(batches.listFiles(...inStore(store.id, batch.id, query)));
  assert.deepEqual([failed.status, failed.last_error.code], ["failed", "invalid_file"]);
  const { id } = await files.create({ file: await file("b.txt", FOXES), purpose: "assistants" });
  const made = await batches.create(store.id, { file_ids: [id] });
  assert.deepEqual([made.status, made.file_counts.in_progress], ["in_progress", 1]);
  assert.equal((await batches.poll(store.id, made.id, POLL)).file_counts.completed, 1);
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
