"""Which pieces of function calls belong together.

Servers number calls or not, give ids to calls or to pieces, and repeat names or cut them up.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.models.replay import Fields
from service.models.texts import storable


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a function call.

    Calls are numbered by `index` from 0, in the order in which they begin. The first piece of a
    call, and no other, has its name, and its id if the server gave one. `arguments` is a piece of
    JSON text.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(slots=True)
class _Call:
    index: int
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)
    unsent: str = ""
    sent: bool = False
    """Whether the name was passed on."""
    begun: bool = False
    """Whether any of the arguments came, besides blank space."""
    again: str | None = None
    """An id or "" with which the name came again after the arguments were complete."""
    fields: Fields = field(default_factory=Fields)
    function_fields: Fields = field(default_factory=Fields)

    def add(self, arguments: str) -> None:
        """Adds a piece of the arguments."""
        if arguments:
            self.arguments.append(arguments)
            self.unsent += arguments
            self.begun = self.begun or not arguments.isspace()

    @property
    def complete(self) -> bool:
        """Whether the arguments are a whole object."""
        last = next(filter(None, map(str.rstrip, reversed(self.arguments))), "")
        if not last.endswith("}"):
            return False
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False


@dataclass(slots=True)
class Calls:
    """Joins the calls of one answer: `read` for those of each delta, then `rest`.

    `functions` are the names of the functions that may be called. They decide whether a name is
    whole, and names are joined only with them.
    """

    functions: Collection[str] = ()
    _calls: list[_Call] = field(default_factory=list)
    _by_index: dict[object, _Call] = field(default_factory=dict)
    """The latest call under each of the server's own indexes."""
    _by_id: dict[str, _Call] = field(default_factory=dict)
    _ids_change: bool = False
    """Whether one call had several ids."""

    def __bool__(self) -> bool:
        """Whether there is any call."""
        return bool(self._calls)

    @property
    def nameless(self) -> bool:
        """Whether a call has no name."""
        return any(call.name is None for call in self._calls)

    def read(self, pieces: Collection[Mapping[str, Any]]) -> Iterator[CallDelta]:
        """Yields what the `tool_calls` of a delta add."""
        named: list[_Call] = []
        """The calls whose names are in this delta: another name is another call's."""
        for piece in pieces:
            yield from self._piece(piece, named)

    def rest(self, *, cut_off: bool) -> Iterator[CallDelta]:
        """Yields what was held back, and `{}` for each call without arguments if not cut off."""
        for call in self._calls:
            yield from self._send(call)
            if not (cut_off or call.begun):
                yield CallDelta(call.index, None, None, "{}")

    def replay(self) -> list[dict[str, Any]]:
        """Returns what each call has that is the server's own; see Replay."""
        entries = []
        for call in self._calls:
            entry = ({} if call.id is None else {"id": call.id}) | call.fields.joined()
            if function := call.function_fields.joined():
                entry["function"] = function
            entries.append(entry)
        return entries

    def _piece(self, piece: Mapping[str, Any], named: list[_Call]) -> Iterator[CallDelta]:
        function = piece.get("function") or {}
        index = piece.get("index")
        id, name = storable(piece.get("id")) or None, storable(function.get("name")) or None
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)

        call = self._addressed(index, id, name)
        if call is not None and not self._continues(call, index, id, name, arguments, named):
            if name is None and call.again is not None:
                id, name = id or call.again or None, call.name
            call = None
        if call is None:
            call = _Call(len(self._calls))
            for earlier in self._calls:
                yield from self._send(earlier)
            self._calls.append(call)
        self._by_index[call.index if index is None else index] = call
        if id is not None:
            self._ids_change |= call.id not in (None, id)
            call.id = call.id or id
            self._by_id[id] = call
        if name is not None:
            named.append(call)
            if not call.sent:
                call.name = self._joined(call.name, name) or name
        call.fields.add(_others(piece, "index", "id", "type", "function"))
        call.function_fields.add(_others(function, "name", "arguments"))
        call.add(arguments)
        if call.begun or not self._may_go_on(call.name):
            yield from self._send(call)

    def _send(self, call: _Call) -> Iterator[CallDelta]:
        """Yields what was not yet passed on of a call whose name is known."""
        if call.name is None or (call.sent and not call.unsent):
            return
        first = not call.sent
        arguments, call.sent, call.unsent = storable(call.unsent), True, ""
        yield CallDelta(
            call.index, call.id if first else None, call.name if first else None, arguments
        )

    def _addressed(self, index: object, id: str | None, name: str | None) -> _Call | None:
        """Returns the call that a piece continues if it continues any."""
        by_id = self._by_id.get(id) if id is not None else None
        if index is None:
            return by_id or (self._calls[-1] if self._calls else None)
        call = self._by_index.get(index)
        if call is not None and (call.id == id or by_id is None or name is not None):
            return call
        # An index that says otherwise than the id does is none.
        return by_id if name is None else None

    def _continues(
        self,
        call: _Call,
        index: object,
        id: str | None,
        name: str | None,
        arguments: str,
        named: list[_Call],
    ) -> bool:
        """Returns whether a piece continues the call that it is addressed to, or begins one."""
        another_id = id is not None and call.id is not None and self._by_id.get(id) is not call
        if call.name is None:
            return name is not None or not another_id or not call.complete
        if name is None:
            if arguments.strip() and (call.again is not None or another_id):
                return not call.complete
            return True
        if any(call is other for other in named):
            return False
        if not call.sent and self._joined(call.name, name):
            return True
        if name != call.name:
            return False
        if call.complete:
            if arguments.strip() or (another_id and not self._ids_change):
                return False
            # Servers that repeat names do so in the last piece as well, which is empty.
            call.again = id or ""
            return index is not None or id is not None
        if index is not None:
            return True
        # Without an index, a name that comes again is another call's, except amid its arguments.
        return not another_id and (call.begun or (id is not None and id == call.id))

    def _joined(self, before: str | None, name: str) -> str | None:
        """Returns the name of which both are pieces, as far as it is known; None if they are not.

        The second piece may also say the first one again.
        """
        if not before or (before in self.functions and name in self.functions):
            return None
        for joined in (before + name, name):
            if joined != before and joined.startswith(before) and self._begins_any(joined):
                return joined
        return None

    def _begins_any(self, name: str) -> bool:
        return any(function.startswith(name) for function in self.functions)

    def _may_go_on(self, name: str | None) -> bool:
        """Returns whether a name may be the first piece of a longer one."""
        return name is not None and any(
            function != name and function.startswith(name) for function in self.functions
        )


def _others(fields: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in known}
