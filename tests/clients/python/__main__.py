"""Runs the checks: `python -m tests.clients.python CONFIG`.

CONFIG is JSON: `base_url`, and either `models`, the scripted model of each `MODE CHECK`, or `held`,
one that falls silent in the middle of an answer. Prints a line of JSON for each check: `mode`,
`check`, and `error`, which is null if all went well.
"""

import asyncio
import json
import sys
import traceback
import warnings
from typing import Any, Final

import openai

from tests.clients.python import (
    files,
    interpreter,
    models,
    objects,
    polling,
    responses,
    streams,
    vector_stores,
)
from tests.clients.python.harness import CHECKS, entered, got, same
from tests.clients.python.scene import scene

MODULES: Final = [objects, streams, polling, responses, files, vector_stores, models, interpreter]
"""What registers the checks."""


def _azure(base_url: str, **given: Any) -> openai.AzureOpenAI:
    endpoint = base_url.removesuffix("/v1")
    version = "2024-05-01-preview"
    return openai.AzureOpenAI(azure_endpoint=endpoint, api_version=version, **given)


MODES: Final[dict[str, Any]] = {
    "sync": lambda **given: openai.OpenAI(**given),
    "async": lambda **given: openai.AsyncOpenAI(**given),
    "strict": lambda **given: openai.OpenAI(**given, _strict_response_validation=True),
    "azure": _azure,
}

DEPRECATED: Final = ("The Assistants API is deprecated in favor of the Responses API", "deprecated")
"""What the client itself says of many calls."""


async def run_checks(base_url: str, models: dict[str, str]) -> None:
    """Runs every check in every mode."""
    for mode, connect in MODES.items():
        async with entered(connect(base_url=base_url, api_key="none", max_retries=0)) as client:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for name, check in CHECKS.items():
                    await run_check(mode, name, check(client, models[f"{mode} {name}"]))
            await run_check(mode, "no_warnings", no_warnings(caught))


async def run_check(mode: str, name: str, check: Any) -> None:
    """Runs one check and prints what became of it."""
    error = None
    try:
        await check
    except Exception:
        error = traceback.format_exc()
    print(json.dumps({"mode": mode, "check": name, "error": error}), flush=True)


async def no_warnings(caught: list[warnings.WarningMessage]) -> None:
    """Fails if anything was warned of."""
    texts = {str(warning.message) for warning in caught}
    same(texts.difference(DEPRECATED), set())


async def follow(base_url: str, model: str) -> None:
    """Prints `held` at each piece of an answer, and then how the stream ends."""
    warnings.simplefilter("ignore", DeprecationWarning)
    async with entered(openai.AsyncOpenAI(base_url=base_url, api_key="none")) as client:
        manager = client.beta.threads.runs.stream(**await scene(client, model))
        try:
            async with entered(manager) as stream:
                async for _ in stream.text_deltas:
                    print("held", flush=True)
                [message] = await got(stream.get_final_messages())
            print("completed", message.content[0].text.value, flush=True)
        except openai.APIError as error:
            print(type(error).__name__, error.message, flush=True)


async def main(config: dict[str, Any]) -> None:
    """Does what the configuration asks for."""
    if "held" in config:
        await follow(config["base_url"], config["held"])
    else:
        await run_checks(config["base_url"], config["models"])


asyncio.run(main(json.loads(sys.argv[1])))
