"""Failures of the model that pass, on a server that asks it up to three times."""

from collections.abc import Iterator

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene
from tests.support.rest.wire import Wire
from tests.support.script import Answer, BreakOff, Fail, Step
from tests.support.sequences import PLAIN, folded
from tests.support.stack import Stack, serving


@pytest.fixture(scope="module")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_RETRIES": "2",
    }
    with serving(settings) as stack:
        yield stack


@pytest.mark.parametrize(
    "failures",
    [[Fail(500)], [Fail(429, retry_after=1)], [BreakOff(), Fail(503)]],
    ids=["500", "429", "connection"],
)
def test_what_passes_is_not_seen(
    client: openai.OpenAI, models: ModelServer, wire: Wire, failures: list[Step]
) -> None:
    model = models.script(*failures, Answer("There."))
    scene = Scene.create(client, model)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    assert folded(wire.event_names) == PLAIN
    assert scene.texts() == ["Hello", "There."]
    assert len(models.requests(model)) == len(failures) + 1


def test_enough_is_enough(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(*[Fail(429, "Slow down.") for _ in range(3)])
    run = Scene.create(client, model).run()
    assert run.last_error is not None
    assert (run.last_error.code, run.last_error.message) == (
        "rate_limit_exceeded",
        "Rate limit reached. Slow down.",
    )
    assert len(models.requests(model)) == 3


@pytest.mark.parametrize(
    "failure",
    [
        Fail(400, "Too long."),
        Fail(429, "Pay first.", code="insufficient_quota"),
        # Longer than the run lives.
        Fail(503, "Come back tomorrow.", retry_after=3600),
        # Some of it was streamed: it cannot be taken back.
        BreakOff("Half an ans"),
    ],
    ids=["400", "quota", "too late", "begun"],
)
def test_what_does_not_pass_is_not_tried_again(
    client: openai.OpenAI, models: ModelServer, failure: Step
) -> None:
    model = models.script(failure)
    assert Scene.create(client, model).run().status == "failed"
    assert len(models.requests(model)) == 1
