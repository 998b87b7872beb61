"""How a model server wants to be asked where it refuses OpenAI's own form.

A request goes out in OpenAI's form first. What the server refuses is asked again otherwise, at once
and only before the first piece of the answer. Once the server has answered so, that is remembered
for the model until the process ends. The quirks of a server can be set from the start, too.
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from service.models import turns
from service.models.failures import ModelError, Refusal

log = structlog.get_logger(__name__)

MAX_MODELS = 1000
"""Models that are remembered, the latest used."""


class Quirk(StrEnum):
    """What a server wants otherwise than in OpenAI's form. A member's name is its value."""

    max_tokens = "max_tokens"  # `max_completion_tokens` under its older name
    no_stream_options = "no_stream_options"
    no_temperature = "no_temperature"  # these are left out if they have the API's default
    no_top_p = "no_top_p"
    no_parallel_tool_calls = "no_parallel_tool_calls"
    no_tool_choice = "no_tool_choice"
    no_reasoning_effort = "no_reasoning_effort"
    no_strict = "no_strict"
    no_system = "no_system"  # the system text is the beginning of the first user message
    alternating_roles = "alternating_roles"  # user, assistant, user, …, with a user at both ends
    empty_content = "empty_content"  # an empty text in place of null beside tool calls
    plain_turns = "plain_turns"  # no fields but those of OpenAI's own turns
    no_think = "no_think"  # `<think>` at the beginning of an answer is text like any other


_DEFAULTS: dict[Quirk, Any] = {
    Quirk.no_temperature: 1,
    Quirk.no_top_p: 1,
    Quirk.no_parallel_tool_calls: True,
    Quirk.no_tool_choice: "auto",
    Quirk.no_reasoning_effort: "medium",
}
"""The API's defaults of the parameters that quirks are named after."""

_NAMES = {
    Quirk.max_tokens: ("max_completion_tokens",),
    Quirk.no_stream_options: ("stream_options", "include_usage"),
}
"""What refusals name, where it is not the parameter that a quirk is named after."""

_TURNS = {
    # In the order in which they are looked for. Some say that roles must alternate, and mean that
    # there is a system's.
    Quirk.alternating_roles: re.compile(
        r"alternat|consecutive|successive|interleav|in a row|same role"
        r"|(?:first|last) (?:message|role|turn)|(?:start|begin|end)s? with",
        re.IGNORECASE,
    ),
    Quirk.no_system: re.compile(r"\bsystem\b|only user|alternat", re.IGNORECASE),
    Quirk.empty_content: re.compile(r"\bcontent\b|\bnull\b|\bnone(?:type)?\b", re.IGNORECASE),
}
"""What concerns the turns of a conversation, and the words by which refusals name it."""

_LENGTH = re.compile(
    r"context (?:size|window)|too (?:long|large|many|big)|length|exceed|maximum|at most|limit",
    re.IGNORECASE,
)

_UNRELATED = re.compile(
    r"\bparam(?:eter)?s?\b|unrecognized|unknown (?:field|name|argument)|extra (?:input|field)"
    r"|polic(?:y|ies)|filter|flagged|moderation|safety|quota|billing|credit|api key"
    r"|not found|does not exist|no such",
    re.IGNORECASE,
)
"""Words of refusals that have nothing to do with the turns of the conversation."""

_TOOLS = r"\b(?:tools|tool (?:use|calling|calls)|functions|function call(?:s|ing)?)\b(?![\[._])"
_NO_TOOLS = re.compile(
    _TOOLS + r"[\"'`]?[\w\s,'\"`:-]{0,40}\b(?:unsupported"
    r"|not (?:supported|allowed|available|enabled|permitted))"
    r"|(?:not support|no support for|unsupported|not allowed|unknown|unrecogni[sz]ed|unexpected"
    r"|extra)[\w\s:,'\"`()-]{0,60}" + _TOOLS + r"|enable-auto-tool-choice|tool-call-parser"
    r"|\btools param\b.*--jinja",
    re.IGNORECASE,
)
"""Words of servers whose model calls no functions: Ollama, vLLM, llama.cpp, and most proxies."""

_TEMPLATE = re.compile(r"jinja|template|\broles?\b|nonetype", re.IGNORECASE)
"""Words of faults that come from the turns: any other may pass by itself, and is no lesson."""


def adapted(request: Mapping[str, Any], quirks: Collection[Quirk]) -> dict[str, Any]:
    """Returns a chat-completion request as a server with these quirks wants it."""
    body = dict(request)
    if Quirk.no_stream_options in quirks:
        body.pop("stream_options", None)
    for quirk, default in _DEFAULTS.items():
        if quirk in quirks and body.get(_parameter(quirk)) == default:
            del body[_parameter(quirk)]
    if Quirk.no_strict in quirks:
        body |= _not_strict(body)
    if Quirk.max_tokens in quirks and "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if Quirk.plain_turns in quirks:
        body["messages"] = turns.plain(body["messages"])
    if Quirk.no_system in quirks:
        body["messages"] = turns.without_system(body["messages"])
    if Quirk.alternating_roles in quirks:
        body["messages"] = turns.alternating(body["messages"])
    if Quirk.empty_content in quirks:
        body["messages"] = turns.with_content(body["messages"])
    return body


class Dialects:
    """What is known of one server's models."""

    def __init__(self, quirks: Collection[Quirk] = ()) -> None:
        """Knows of `quirks` that all models of the server have."""
        self._quirks = frozenset(quirks)
        self._learned: OrderedDict[str, frozenset[Quirk]] = OrderedDict()
        self._without_tools: OrderedDict[str, None] = OrderedDict()

    def refuses_tools(self, model: str) -> bool:
        """Returns whether a model is known to take no tools."""
        return model in self._without_tools

    def learn_refusal_of_tools(self, model: str) -> None:
        """Remembers that a model takes no tools."""
        log.info("tools refused", model=model)
        self._without_tools[model] = None
        if len(self._without_tools) > MAX_MODELS:
            self._without_tools.popitem(last=False)

    def of(self, model: str) -> frozenset[Quirk]:
        """Returns the quirks that a model is known to have."""
        if model in self._learned:
            self._learned.move_to_end(model)
        return self._quirks | self._learned.get(model, frozenset())

    def learn(self, model: str, quirks: Collection[Quirk]) -> None:
        """Remembers more quirks of a model."""
        self._learned[model] = self._learned.get(model, frozenset()).union(quirks)
        self._learned.move_to_end(model)
        if len(self._learned) > MAX_MODELS:
            self._learned.popitem(last=False)
        log.info("dialect learned", model=model, quirks=sorted(map(str, self._learned[model])))


@dataclass(frozen=True, slots=True)
class _Change:
    """What to ask otherwise after a refusal."""

    quirks: frozenset[Quirk]
    named: bool
    """Whether the refusal names it; else it is a guess."""
    lasting: bool
    """Whether it is to be remembered if the server then answers."""


class Negotiation:
    """One request, asked until the server takes it or nothing is left to be asked otherwise."""

    def __init__(self, dialects: Dialects, request: Mapping[str, Any]) -> None:
        """Begins with what is known of the model."""
        self._dialects = dialects
        self._request = request
        self._learned: set[Quirk] = set()
        self._change: _Change | None = None
        self._cause: ModelError | None = None
        """The refusal that led to the latest change."""
        self.quirks = dialects.of(request["model"])
        """What the next request, or the latest one, takes into account."""

    @property
    def body(self) -> dict[str, Any]:
        """The request as it is to be sent."""
        return adapted(self._request, self.quirks)

    def answered(self) -> None:
        """Takes in that the server answers."""
        if self._learned:
            self._dialects.learn(self._request["model"], self._learned)
            self._learned.clear()

    def failed(self, failure: ModelError) -> bool:
        """Takes in that the request failed; returns whether it is to be sent otherwise now."""
        change = None
        if failure.refusal is not None and failure.context is None:
            change = _change(failure.refusal, self._request, self.quirks)
        if change is None:
            return False
        quirks = sorted(map(str, change.quirks))
        log.info("asked otherwise", model=self._request["model"], quirks=quirks)
        self.quirks |= change.quirks
        if change.lasting:
            self._learned |= change.quirks
        self._change, self._cause = change, failure
        return True

    def error(self, failure: ModelError) -> ModelError:
        """Returns the failure that is why there is no answer, where `failure` is the latest.

        It is the one before if the latest change did not help: then the refusal of the
        changed request explains nothing.
        """
        if self._cause is None or self._change is None or failure.refusal is None:
            return failure
        if failure.context is not None:
            return failure
        words = failure.refusal.words
        helped = self._change.named and not any(
            _names(_parameter(quirk), words) for quirk in self._change.quirks
        )
        return failure if helped else self._cause


def refuses_tools(refusal: Refusal, request: Mapping[str, Any]) -> bool:
    """Returns whether a refusal is one of tools as such, be they right or wrong."""
    if not request.get("tools"):
        return False
    return _NO_TOOLS.search(refusal.words) is not None


def _change(
    refusal: Refusal, request: Mapping[str, Any], quirks: frozenset[Quirk]
) -> _Change | None:
    """Returns what to ask otherwise; None where the refusal gives no reason to."""
    words = refusal.words
    before = adapted(request, quirks)
    able = frozenset(quirk for quirk in Quirk if adapted(request, quirks | {quirk}) != before)
    is_long = _LENGTH.search(words) is not None
    if refusal.status != 500:
        named = frozenset(quirk for quirk in able - frozenset(_TURNS) if _refused(quirk, words))
        # Gemini calls every field a name.
        others, text = turns.others(request["messages"]), words.lower().replace("unknown name", "")
        if not named and any(_names(name, text) for name in others):
            named = able & {Quirk.plain_turns}
        # A limit may be refused because it is too high.
        if named := named - {Quirk.max_tokens} if is_long else named:
            return _Change(named, named=True, lasting=True)
    lasting = refusal.status != 500 or _TEMPLATE.search(words) is not None
    for quirk, pattern in _TURNS.items():
        if quirk in able and pattern.search(words):
            return _Change(frozenset({quirk}), named=True, lasting=lasting)
    guessed = able & frozenset(_TURNS)
    if not guessed or is_long or _is_unrelated(words, before):
        return None
    return _Change(guessed, named=False, lasting=lasting)


def _refused(quirk: Quirk, words: str) -> bool:
    return any(_names(name, words) for name in _NAMES.get(quirk, (_parameter(quirk),)))


def _parameter(quirk: Quirk) -> str:
    """Returns the parameter that a quirk is named after."""
    return quirk.removeprefix("no_")


def _names(parameter: str, words: str) -> bool:
    name = parameter.replace("_", "[_ ]")
    return re.search(rf"(?<!\w){name}(?!\w)", words, re.IGNORECASE) is not None


def _is_unrelated(words: str, body: Mapping[str, Any]) -> bool:
    names = body.keys() - {"model", "messages", "stream"}
    return _UNRELATED.search(words) is not None or any(_names(name, words) for name in names)


def _not_strict(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns tools and response format without `strict`, where it is false wherever it is."""
    tools = body.get("tools") or []
    response_format = body.get("response_format") or {}
    places = [*(tool.get("function", {}) for tool in tools), response_format.get("json_schema", {})]
    if any(place.get("strict") for place in places) or not any("strict" in each for each in places):
        return {}

    def lenient(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
        if key not in holder:
            return dict(holder)
        return {**holder, key: {k: v for k, v in holder[key].items() if k != "strict"}}

    changed: dict[str, Any] = {}
    if tools:
        changed["tools"] = [lenient(tool, "function") for tool in tools]
    if response_format:
        changed["response_format"] = lenient(response_format, "json_schema")
    return changed
