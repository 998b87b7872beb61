// What stands around the objects: raw responses, request ids, errors.

import assert from "node:assert/strict";

import OpenAI, { AzureOpenAI } from "openai";

import { assistants, cancel, client, old, refused, runs, scene } from "./scene.mjs";

export async function raw_responses(model) {
  const { data, response, request_id } = await assistants.create({ model }).withResponse();
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.match(request_id, /^.{8,}$/);
  assert.deepEqual([data._request_id, response.headers.get("x-request-id")], [request_id, request_id]);
  const raw = await assistants.retrieve(data.id).asResponse();
  assert.deepEqual(await raw.json(), data);
  const [threadId, ids] = await scene(model);
  const sse = await runs.create(threadId, { ...ids, stream: true }).asResponse();
  assert.match(sse.headers.get("content-type"), /^text\/event-stream/);
  assert.match(await sse.text(), /event: done\ndata: \[DONE\]\n\n$/);
}

export async function errors(model) {
  const check = (error, status, message, param = null, code = null) => {
    const body = { message, type: "invalid_request_error", param, code };
    assert.deepEqual([error.status, error.error], [status, body]);
    assert.deepEqual([error.type, error.param, error.code], [body.type, param, code]);
    assert.equal(error.message, `${status} ${message}`);
    assert.match(old ? error.request_id : error.requestID, /^.{8,}$/);
  };
  const unknown = await refused(OpenAI.NotFoundError, () => assistants.retrieve("asst_x"));
  check(unknown, 404, "No assistant found with id 'asst_x'.");
  const wrong = await refused(OpenAI.BadRequestError, () => assistants.list({ limit: 101 }));
  const tooMany =
    "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.";
  check(wrong, 400, tooMany, "limit", "integer_above_max_value");
  const more = await refused(OpenAI.BadRequestError, () => assistants.create({ model, foo: 1 }));
  check(more, 400, "Unknown parameter: 'foo'.", "foo", "unknown_parameter");
  const lost = await refused(OpenAI.NotFoundError, () => client.fineTuning.jobs.list());
  const prefix = client instanceof AzureOpenAI ? "/openai" : "/v1";
  check(lost, 404, `Invalid URL (GET ${prefix}/fine_tuning/jobs)`);

  const [threadId, ids] = await scene(model);
  const run = await runs.create(threadId, ids);
  const active = `Thread ${threadId} already has an active run ${run.id}.`;
  check(await refused(OpenAI.BadRequestError, () => runs.create(threadId, ids)), 400, active);
  const stream = runs.stream(threadId, ids);
  check(await refused(OpenAI.BadRequestError, () => stream.done()), 400, active);
  await cancel(run);
}
