"""What a model has answered so far in one turn: in storage, on the stream, and in memory.

Storage gets a step when it begins and again when it ends; the pieces between go to the stream only,
which waits for neither. An attempt that dies leaves nothing but open rows, which the next one
withdraws.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from service.models.client import CallDelta, Finished, Piece, RefusalDelta, TextDelta
from service.runner.events import build
from service.runner.events.publisher import Publisher
from service.runner.openings import Openings
from service.runner.tools.registry import Offered, Toolbox
from service.types import tool_calls
from service.types.events import Event
from storage import ids, transitions
from storage.claims import Claim, Claims, MessageEnd, RunEnd, Saved, StepEnd
from storage.tables import Message, RunStatus, RunStep, StepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a turn ends: what becomes of the run, and why. `in_progress`: another turn follows."""

    status: RunStatus
    message_incomplete: str | None = None
    last_error: dict[str, str] | None = None
    incomplete_reason: str | None = None

    @property
    def run(self) -> RunEnd | None:
        """What is saved of it on the run itself; None if the run goes on."""
        if self.status == RunStatus.in_progress:
            return None
        return RunEnd(self.status, self.last_error, self.incomplete_reason)


@dataclass(slots=True)
class Called:
    """A call of the turn: as its step shows it, and as the model has made it."""

    index: int
    """Its place in the step."""
    shown: dict[str, Any]
    name: str
    offered: Offered | None
    """The server's tool that it calls; None if it calls a function."""
    pieces: list[str] = field(default_factory=list)
    output: str | None = None
    """What the model is given of it; functions have theirs in what is shown."""

    @property
    def arguments(self) -> str:
        """The arguments, as far as the model has come."""
        return "".join(self.pieces)

    @property
    def executed(self) -> dict[str, Any] | None:
        """What is replayed to the model of a call that the server has executed."""
        if self.output is None:
            return None
        return {"name": self.name, "arguments": self.arguments, "output": self.output}


class Answer:
    """The message and the calls of one turn, opened as the model comes to them."""

    def __init__(
        self,
        claims: Claims,
        claim: Claim,
        publisher: Publisher,
        openings: Openings,
        toolbox: Toolbox,
    ) -> None:
        """Writes under `claim`; publishes through `publisher` what happens."""
        self._claims = claims
        self._claim = claim
        self._publisher = publisher
        self._openings = openings
        self._toolbox = toolbox
        self._finished: Finished | None = None
        self._message: Message | None = None
        self._message_step: RunStep | None = None
        self._call_step: RunStep | None = None
        self._parts: dict[str, list[str]] = {}
        """The pieces of the text and of the refusal, whichever came first standing first."""
        self._calls: dict[int, Called] = {}
        """By the model's numbers, in the order in which they have begun."""

    @property
    def begun(self) -> bool:
        """Whether any of it has been published."""
        return self._message is not None or self._call_step is not None

    @property
    def has_calls(self) -> bool:
        """Whether the model has called a tool."""
        return bool(self._calls)

    @property
    def awaits_outputs(self) -> bool:
        """Whether the model has called a function."""
        return any(call.offered is None for call in self._calls.values())

    @property
    def server_calls(self) -> list[Called]:
        """The calls that the server executes, in order."""
        return [call for call in self._calls.values() if call.offered is not None]

    async def add(self, *pieces: Piece) -> None:
        """Takes the next pieces of the answer."""
        await self._publish(*(event for piece in pieces for event in self._take(piece)))

    def model_finished(self, finished: Finished) -> None:
        """Takes the end of the model's answer, with what it took."""
        self._finished = finished

    async def add_to_call(self, call: Called, details: dict[str, Any]) -> None:
        """Adds a piece to a call that the server executes."""
        await self._publish(self._add_to_call(call, details))

    def end_call(self, call: Called, output: str, details: dict[str, Any]) -> None:
        """Adds what came of a call that the server has executed."""
        call.output = output
        call.shown[call.shown["type"]] |= details

    async def finish(self, ending: Ending) -> Saved:
        """Ends the turn as `ending` says, with all that it has open. Raises ClaimLost."""
        if ending.status == RunStatus.completed and self._message is None:
            # An empty answer is a message too, of one empty text.
            await self.add(TextDelta(""))
        message_end = None
        if self._message is not None:
            message_end = MessageEnd(self._message.id, self._content(), ending.message_incomplete)
        saved = await self._claims.save(
            self._claim,
            begun=await self._openings.unwritten(),
            message=message_end,
            steps=self._step_ends(ending),
            run=ending.run,
        )
        happened = [build.message(saved.message)] if saved.message else []
        happened += [
            build.step(step) for step in saved.steps if step.status != StepStatus.in_progress
        ]
        if saved.run is not None:
            happened += build.run(saved.run, saved.steps[-1] if saved.steps else None)
        await self._publish(*happened)
        return saved

    async def discard(self, ending: Ending) -> Saved:
        """Ends the run without what the turn has open, which is withdrawn. Otherwise as `finish`.

        For a turn whose own end cannot be written.
        """
        await self._openings.unwritten()
        saved = await self._claims.save(self._claim, run=ending.run)
        assert saved.run is not None
        at = saved.run.failed_at or saved.run.cancelled_at
        await self._publisher.withdraw(saved.run, saved.withdrawn, at, *build.run(saved.run))
        return saved

    async def release(self) -> None:
        """Gives the run back without what the turn has open, which is withdrawn. Raises ClaimLost.

        If the database is away, this raises Unreachable, and the lease runs out.
        """
        await self._openings.unwritten()
        withdrawn = await self._claims.release(self._claim)
        run = self._claim.run
        await self._publisher.withdraw(run, withdrawn, run.started_at)

    async def _publish(self, *happened: Event) -> None:
        await self._publisher.publish(self._claim.run, *happened)

    def _take(self, piece: Piece) -> list[Event]:
        match piece:
            case TextDelta(text):
                message, opened = self._opened_message()
                first = "text" not in self._parts
                index = self._append("text", text)
                return [*opened, build.text_delta(message.id, index, text, first=first)]
            case RefusalDelta(text):
                message, opened = self._opened_message()
                index = self._append("refusal", text)
                return [*opened, build.refusal_delta(message.id, index, text)]
            case CallDelta():
                return self._add_call(piece)

    def _opened_message(self) -> tuple[Message, list[Event]]:
        """Returns the turn's message, and the events of its beginning if it begins now."""
        if self._message is not None:
            return self._message, []
        opening = self._openings.message(ahead_of=self._call_step)
        assert opening.message is not None
        self._message_step, self._message = opening.step, opening.message
        opened = [*build.step_opened(opening.step), *build.message_opened(opening.message)]
        return opening.message, opened

    def _append(self, kind: str, text: str) -> int:
        self._parts.setdefault(kind, []).append(text)
        return list(self._parts).index(kind)

    def _content(self) -> list[dict[str, Any]]:
        return [
            {"type": "text", "text": {"value": "".join(pieces), "annotations": []}}
            if kind == "text"
            else {"type": "refusal", "refusal": "".join(pieces)}
            for kind, pieces in self._parts.items()
        ]

    def _add_call(self, piece: CallDelta) -> list[Event]:
        happened = []
        if self._call_step is None:
            self._call_step = self._openings.tool_calls().step
            happened += build.step_opened(self._call_step)
        if piece.index not in self._calls:
            # The id is made here: some model servers give none, or the same one twice.
            name, call_id = piece.name or "", ids.new_id(ids.CALL)
            offered = self._toolbox[name]
            type = "function" if offered is None else offered.tool.type
            shown = tool_calls.begun(type, call_id, name)
            call = self._calls[piece.index] = Called(len(self._calls), shown, name, offered)
            happened.append(build.call_begun(self._call_step.id, call.index, shown))
        if piece.arguments:
            call = self._calls[piece.index]
            call.pieces.append(piece.arguments)
            # What the server executes shows what it makes of them.
            if call.offered is None:
                happened.append(self._add_to_call(call, {"arguments": piece.arguments}))
        return happened

    def _add_to_call(self, call: Called, details: dict[str, Any]) -> Event:
        assert self._call_step is not None
        tool_calls.add(call.shown, details)
        return build.call_delta(self._call_step.id, call.index, call.shown["type"], details)

    def _step_ends(self, ending: Ending) -> list[StepEnd]:
        status = transitions.ENDS_STEP.get(ending.status, StepStatus.completed)
        error = _step_error(ending.last_error)
        ends = []
        if self._message_step is not None:
            ends.append(StepEnd(self._message_step.id, status, last_error=error))
        if self._call_step is not None:
            awaited = ending.status == RunStatus.requires_action
            ends.append(
                StepEnd(
                    self._call_step.id,
                    StepStatus.in_progress if awaited else status,
                    last_error=error,
                    step_details={
                        "type": "tool_calls",
                        "tool_calls": [call.shown for call in self._calls.values()],
                    },
                )
            )
        if ends:
            # What the turn took stands on its last step, so that the run's sum counts it once.
            # So does what the model server gets back with the turn.
            usage = None if self._finished is None else self._finished.usage
            ends[-1] = dataclasses.replace(ends[-1], usage=usage, replay=self._replay())
        return ends

    def _replay(self) -> dict[str, Any] | None:
        kept: dict[str, Any] = {}
        if self._finished is not None and (replay := self._finished.replay) is not None:
            # A call stands where its name came, which may be after a later call's.
            kept = {"turn": replay.turn, "calls": [replay.calls[index] for index in self._calls]}
        if any(call.output is not None for call in self._calls.values()):
            kept["executed"] = [call.executed for call in self._calls.values()]
        return kept or None


def _step_error(error: dict[str, str] | None) -> dict[str, str] | None:
    # The contract knows `invalid_prompt` on runs, not on steps.
    if error is not None and error["code"] == "invalid_prompt":
        return error | {"code": "server_error"}
    return error
