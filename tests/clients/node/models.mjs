// Models: what the model server offers.

import assert from "node:assert/strict";

import OpenAI from "openai";

import { client, each, refused } from "./scene.mjs";

export async function every_call_on_models() {
  const { models } = client;
  const [model] = await each(models.list());
  assert.equal(model.object, "model");
  assert.deepEqual(await models.retrieve(model.id), model);
  const error = await refused(OpenAI.NotFoundError, () => models.retrieve("unknown"));
  assert.equal(error.code, "model_not_found");
}
