"""Models: what the model server offers."""

import json
import urllib.request
from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import expect
from tests.support.stack import serving


def test_a_model_is_listed_and_found(client: openai.OpenAI, models: ModelServer) -> None:
    listed = client.models.list()
    assert listed.object == "list"
    assert all(model.object == "model" for model in listed.data)
    first = listed.data[0]
    assert first.to_dict() == {
        "id": first.id,
        "object": "model",
        "created": first.created,
        "owned_by": "system",
    }
    assert client.models.retrieve(first.id) == first


def test_ids_may_contain_slashes(client: openai.OpenAI, models: ModelServer) -> None:
    found = client.models.retrieve("org/scripted")
    assert found.id == "org/scripted"
    base = str(client.base_url)
    with urllib.request.urlopen(f"{base}models/org/scripted") as answer:
        assert json.load(answer)["id"] == "org/scripted"


@pytest.mark.parametrize("name", ["x", "org/x", "a b", "ü"])
def test_an_unknown_model(client: openai.OpenAI, models: ModelServer, name: str) -> None:
    message = f"The model '{name}' does not exist"
    call: Any = lambda client: client.models.retrieve(name)  # noqa: E731
    expect(client, call, 404, message, "model", "model_not_found")


def test_a_model_server_that_gives_no_list() -> None:
    with (
        serving({"ASSISTANTS_MODEL_BASE_URL": "http://127.0.0.1:1/v1"}) as stack,
        openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=0) as client,
    ):
        for call in (client.models.list, lambda: client.models.retrieve("any")):
            with pytest.raises(openai.InternalServerError) as refused:
                call()
            assert refused.value.status_code == 503
            assert refused.value.body == {
                "message": "The model server does not list its models. Try again later.",
                "type": "server_error",
                "param": None,
                "code": None,
            }
