"""Real chat templates that raise, in a real llama.cpp server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.models import embedded
from service.models.client import ChatModel, Finished
from tests.models.test_client import answer

GEMMA = """\
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}
    {{- raise_exception('System role not supported') -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Conversation roles must alternate user/assistant/...') -}}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""

MISTRAL = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Conversation roles must alternate user/assistant/...') -}}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {{- '[INST] ' + message['content'] + ' [/INST]' -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- message['content'] + eos_token -}}
    {%- else -%}
        {{- raise_exception('Only user and assistant roles are supported!') -}}
    {%- endif -%}
{%- endfor -%}
"""


@pytest.fixture(params=[GEMMA, MISTRAL], ids=["gemma", "mistral"])
async def strict(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ChatModel]:
    """The client of a server with a strict template."""
    monkeypatch.setattr(
        embedded, "PROGRAM", Path(__file__).parents[1] / "support" / "models" / "strict_llama.py"
    )
    monkeypatch.setenv("TEMPLATE", request.param)
    server = embedded.EmbeddedModel(tmp_path)
    await server.start()
    model = ChatModel(server.base_url, "none", 60)
    yield model
    await model.close()
    await server.stop()


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


async def test_templates_that_raise(strict: ChatModel, capsys: pytest.CaptureFixture[str]) -> None:
    system, first, second = turn("system", "Be brief."), turn("user", "Hi."), turn("user", "Hello?")
    assistant = turn("assistant", "Yes?")
    conversations = [
        [system, first],
        [first, second],
        [system, assistant, first, second],
        [system, first, assistant],
    ]
    for messages in conversations:
        asked: dict[str, Any] = {"model": "m", "messages": messages, "max_completion_tokens": 8}
        assert isinstance((await answer(strict, asked))[-1], Finished)
    # What is learned is not asked again. What a system says, llama.cpp itself gives to the user.
    log = capsys.readouterr().out
    assert (log.count("asked otherwise"), log.count("dialect learned")) == (1, 1)
