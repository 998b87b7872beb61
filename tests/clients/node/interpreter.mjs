// The code interpreter: a file in, and out of it an image, a file and what the code says.

import assert from "node:assert/strict";

import { toFile } from "openai";

import {
  assistants, BEGIN, client, each, followed, HELLO, messages, runs, STEP, threads,
} from "./scene.mjs";

const TOOL = { type: "code_interpreter" };
const CALLED = [...STEP, "thread.run.step.delta", "thread.run.step.completed"];

/** Returns the bytes of a file. */
async function content(fileId) {
  const response = await client.files.content(fileId);
  return Buffer.from(await response.arrayBuffer());
}

export async function code_interpreter(model) {
  const file = await toFile(Buffer.from("1,2"), "in.csv");
  const data = await client.files.create({ file, purpose: "assistants" });
  const assistant = await assistants.create({
    model,
    tools: [TOOL],
    tool_resources: { code_interpreter: { file_ids: [data.id] } },
  });
  const thread = await threads.create({ messages: [HELLO] });
  const seen = await followed(runs.stream(thread.id, { assistant_id: assistant.id }));
  assert.equal(seen.run.status, "completed");
  assert.deepEqual(seen.events.slice(0, BEGIN.length + CALLED.length), [...BEGIN, ...CALLED]);
  assert.equal(seen.given.toolCallCreated[0].type, "code_interpreter");
  const [done] = seen.given.toolCallDone;
  const inputs = seen.given.toolCallDelta.map((delta) => delta.code_interpreter.input);
  assert.equal(inputs.join(""), done.code_interpreter.input);
  const [logs, image] = done.code_interpreter.outputs;
  assert.deepEqual([logs.type, logs.logs, image.type], ["logs", "1,2\n", "image"]);
  const [shown] = seen.given.imageFileDone;
  assert.equal(shown.file_id, image.image.file_id);
  assert.equal((await content(shown.file_id)).toString("latin1", 1, 4), "PNG");
  const [message] = await each(messages.list(thread.id, { run_id: seen.run.id }));
  const [part, text] = message.content;
  assert.deepEqual([part.type, part.image_file.file_id], ["image_file", shown.file_id]);
  const [annotation] = text.text.annotations;
  const expected = ["file_path", "sandbox:/mnt/data/out.csv"];
  assert.deepEqual([annotation.type, annotation.text], expected);
  const [attachment] = message.attachments;
  assert.equal(attachment.file_id, annotation.file_path.file_id);
  assert.equal((await content(attachment.file_id)).toString(), "2,1");
}
