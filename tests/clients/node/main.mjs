// Does everything that OpenAI's JavaScript client can do with a server, and says what fails.
//
// `node --preserve-symlinks --preserve-symlinks-main drive/main.mjs CONFIG`, where `drive` is a link to
// this directory, beside the node_modules that hold the client. CONFIG is JSON: `base_url`, and either
// `models`, the scripted model of each `MODE CHECK`, or `held`, one that falls silent in the middle of
// an answer. Prints a line of JSON for each check: `mode`, `check`, and `error`, which is null if all
// went well.

import assert from "node:assert/strict";

import * as files from "./files.mjs";
import * as interpreter from "./interpreter.mjs";
import * as models from "./models.mjs";
import * as objects from "./objects.mjs";
import * as polling from "./polling.mjs";
import * as responses from "./responses.mjs";
import { config, connect, MODES, runs, scene } from "./scene.mjs";
import * as streams from "./streams.mjs";
import * as vectorStores from "./vector_stores.mjs";

const CHECKS = {
  ...objects,
  ...streams,
  ...polling,
  ...responses,
  ...files,
  ...vectorStores,
  ...models,
  ...interpreter,
};

/** Prints `held` at each piece of an answer, and then how the stream ends. */
async function follow(model) {
  const stream = runs.stream(...(await scene(model)));
  stream.on("textDelta", () => console.log("held"));
  try {
    const [message] = await stream.finalMessages();
    console.log("completed", message.content[0].text.value);
  } catch (error) {
    console.log(error.constructor.name, error.message);
  }
}

/** Runs one check and prints what became of it. */
async function runCheck(mode, name, check) {
  let error = null;
  try {
    await check();
  } catch (thrown) {
    error = thrown.stack ?? String(thrown);
  }
  console.log(JSON.stringify({ mode, check: name, error }));
}

const warned = [];
process.on("warning", (warning) => warned.push(String(warning)));
console.warn = (...given) => warned.push(given.join(" "));
console.error = console.warn;

if (config.held) {
  connect("async");
  await follow(config.held);
} else {
  for (const mode of Object.keys(MODES)) {
    connect(mode);
    for (const [name, check] of Object.entries(CHECKS)) {
      await runCheck(mode, name, () => check(config.models[`${mode} ${name}`]));
    }
    await runCheck(mode, "no_warnings", async () => assert.deepEqual(warned.splice(0), []));
  }
}
