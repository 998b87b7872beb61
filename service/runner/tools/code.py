"""The code of a call, whatever form a model has given it."""

import ast
import json
import re

from service.runner.tools.tool import ToolFailed

KEYS = ("code", "input", "python")
"""The keys under which models give code, though they are asked for the first."""

NO_CODE = 'No code was given. Call this function with {"code": "…"}, a text with Python code.'

LITERAL = 2**16
"""Characters of a text that may be an object as Python writes it: to read it takes long."""

_LANGUAGE = re.compile(r"[\w+-]*")

_BROKEN = re.compile(r'\s*\{\s*"(?:code|input|python)"\s*:\s*"')
"""How an object begins as models write it that forget to escape quotes, or to close it."""

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANT = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "/": "/"}


def parse(arguments: str) -> str:
    """Returns the code in the arguments of a call: an object, a text, perhaps in a fence.

    Raises ToolFailed where there is none.
    """
    code = _unfenced(_unwrapped(_unfenced(arguments)))
    if not code.strip():
        raise ToolFailed(NO_CODE)
    # Half of a character, which JSON can name, is none that can be sent on.
    return code.encode(errors="replace").decode()


def _unwrapped(text: str) -> str:
    """Returns the code in an object or a quoted text; what is neither is code itself."""
    if text.strip() and text.lstrip()[0] not in "{\"'":
        return text
    value = _value(text)
    match value:
        case str():
            return value
        case dict():
            for key in KEYS:
                if isinstance(code := value.get(key), str):
                    return code
                if isinstance(code, list) and all(isinstance(line, str) for line in code):
                    return "\n".join(code)
            raise ToolFailed(NO_CODE)
        case None if match := _BROKEN.match(text):
            return _ESCAPED.sub(
                lambda found: _MEANT.get(found[1], found[0]), _unclosed(text[match.end() :])
            )
        case _:
            return text


def _value(text: str) -> object:
    """Returns what the text is as JSON, or as Python would write it; None for neither."""
    try:
        # Line ends in texts, which JSON forbids, are taken.
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    if len(text) > LITERAL:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _unclosed(text: str) -> str:
    """Returns a text without the quote and the brace that end it, as far as they are there."""
    end = text.rstrip()
    if end.endswith("}"):
        end = end[:-1].rstrip()
    return end[:-1] if end.endswith('"') else text


def _unfenced(text: str) -> str:
    """Returns a text without the fence around it, which need not be closed."""
    # No expression: one that finds both ends takes minutes for some texts.
    first, newline, rest = text.strip().partition("\n")
    mark = first[: len(first) - len(first.lstrip(first[:1]))] if first[:1] in ("`", "~") else ""
    if not newline or len(mark) < 3 or not _LANGUAGE.fullmatch(first[len(mark) :].strip()):
        return text
    if not rest.endswith(mark):
        return rest
    return rest.removesuffix(mark).removesuffix("\n").removesuffix("\r")
