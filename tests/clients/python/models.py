"""Models: what the model server offers."""

from typing import Any

import openai

from tests.clients.python.harness import check, each, got, refused, same


@check
async def every_call_on_models(client: Any, model: str) -> None:
    models = client.models
    [found, *_] = await each(models.list())
    same(found.object, "model")
    same((await got(models.retrieve(found.id))).to_dict(), found.to_dict())
    error = await refused(openai.NotFoundError, lambda: models.retrieve("unknown"))
    same(error.code, "model_not_found")
