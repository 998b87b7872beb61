"""What a server must get back with its own turn, besides what callers see of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.models.texts import storable_json


@dataclass(frozen=True, slots=True)
class Replay:
    """The fields of an assistant turn and of its calls that only their server understands.

    `turn` has those of the turn, such as `reasoning_content`. `calls` has an entry for each call,
    in order: `id` is the server's own if it gave one, `function` has the fields of the call's
    function and is there only if there are any, all else are fields of the call itself.
    """

    turn: dict[str, Any]
    calls: list[dict[str, Any]]


@dataclass(slots=True)
class Fields:
    """The fields of an object that comes in deltas.

    Texts are concatenated, lists extended, objects joined field by field; of anything else the
    last counts, and null adds nothing.
    """

    _fields: dict[str, "list[str] | _List | Fields | Any"] = field(default_factory=dict)
    """A text is a list of its pieces, joined only at the end: there may be very many."""

    def add(self, delta: Mapping[str, Any]) -> None:
        """Adds one more delta."""
        for key, value in delta.items():
            before = self._fields.get(key)
            match value:
                case None:
                    pass
                case str() if type(before) is list:
                    before.append(value)
                case str():
                    self._fields[key] = [value]
                case list() if isinstance(before, _List):
                    before.extend(value)
                case list():
                    self._fields[key] = _List(value)
                case dict():
                    if not isinstance(before, Fields):
                        before = self._fields[key] = Fields()
                    before.add(value)
                case _:
                    self._fields[key] = value

    def joined(self) -> dict[str, Any]:
        """Returns what all deltas together say."""
        return {key: _joined(value) for key, value in self._fields.items()}


class _List(list[Any]):
    """A value that is a list itself."""


def _joined(value: object) -> object:
    if isinstance(value, Fields):
        return value.joined()
    if isinstance(value, _List):
        return list(value)
    return "".join(value) if isinstance(value, list) else value


def replay_of(turn: Mapping[str, Any], calls: list[dict[str, Any]]) -> Replay | None:
    """Returns what is to be replayed, fit to be stored; None if it is nothing."""
    kept = {key: value for key, value in turn.items() if value not in ("", [], {})}
    if not kept and not any(calls):
        return None
    replay = storable_json({"turn": kept, "calls": calls})
    assert isinstance(replay, dict)
    return Replay(**replay)
