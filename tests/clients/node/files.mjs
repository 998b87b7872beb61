// Files and uploads: each call.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import OpenAI, { toFile } from "openai";

import { client, each, refused, remove } from "./scene.mjs";

const CONTENT = Buffer.from(Uint8Array.from({ length: 256_000 }, (_, at) => at % 256));

async function bytes(id) {
  return Buffer.from(await (await client.files.content(id)).arrayBuffer());
}

export async function every_call_on_files() {
  const { files } = client;
  const given = await toFile(CONTENT, "a b ü.txt");
  const file = await files.create({ file: given, purpose: "assistants" });
  assert.deepEqual(
    [file.filename, file.bytes, file.purpose], ["a b ü.txt", CONTENT.length, "assistants"]);
  assert.deepEqual(await files.waitForProcessing(file.id), file);
  assert.deepEqual(await files.retrieve(file.id), file);
  const [listed] = await each(files.list({ purpose: "assistants" }), 1);
  assert.equal(listed.id, file.id);
  assert.ok(CONTENT.equals(await bytes(file.id)));
  const deleted = await remove(files, file.id);
  assert.deepEqual(deleted, { id: file.id, object: "file", deleted: true });
  await refused(OpenAI.NotFoundError, () => files.retrieve(file.id));
  const small = await toFile(Buffer.from("x"), "a");
  await refused(OpenAI.BadRequestError, () => files.create({ file: small, purpose: "x" }));
}

export async function every_call_on_uploads() {
  const { uploads } = client;
  const given = { filename: "a", mime_type: "a/b", purpose: "assistants" };
  const upload = await uploads.create({ ...given, bytes: CONTENT.length });
  assert.deepEqual([upload.status, upload.file], ["pending", undefined]);
  const parts = [];
  for (const data of [CONTENT.subarray(0, 9), CONTENT.subarray(9)]) {
    parts.push(await uploads.parts.create(upload.id, { data: await toFile(data, "part") }));
  }
  const done = await uploads.complete(upload.id, {
    part_ids: parts.map((part) => part.id),
    md5: createHash("md5").update(CONTENT).digest("hex"),
  });
  assert.deepEqual([done.status, done.file.bytes], ["completed", CONTENT.length]);
  assert.ok(CONTENT.equals(await bytes(done.file.id)));
  const other = await uploads.create({ ...given, bytes: 1 });
  assert.equal((await uploads.cancel(other.id)).status, "cancelled");
}
