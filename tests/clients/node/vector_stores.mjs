// Vector stores: the helpers that upload and poll, and searches.

import assert from "node:assert/strict";

import OpenAI, { toFile } from "openai";

import { client, each, POLL, refused, remove } from "./scene.mjs";

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
