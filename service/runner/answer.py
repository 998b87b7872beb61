"""What a model has answered so far in one turn: in storage, on the stream, and in memory.

Storage gets a step when it begins and again when it ends; the pieces between go to the stream only,
which waits for neither. An attempt that dies leaves nothing but open rows, which the next one
withdraws.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.models.client import CallDelta, Finished, Piece, RefusalDelta, TextDelta
from service.runner.called import Called
from service.runner.composing import Composition
from service.runner.events import build
from service.runner.events.publisher import Publisher
from service.runner.openings import Openings
from service.runner.references import References
from service.runner.tools.registry import Toolbox
from service.runner.tools.tool import Result
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


class Answer:
    """The message and the calls of one turn, opened as the model comes to them."""

    def __init__(
        self,
        claims: Claims,
        claim: Claim,
        publisher: Publisher,
        openings: Openings,
    ) -> None:
        """Writes under `claim`; publishes through `publisher` what happens."""
        self._claims = claims
        self._claim = claim
        self._publisher = publisher
        self._openings = openings
        self._toolbox = Toolbox()
        self._references = References()
        self._finished: Finished | None = None
        self._message: Message | None = None
        self._message_step: RunStep | None = None
        self._call_step: RunStep | None = None
        self._composition: Composition | None = None
        self.is_ahead = False
        """Whether its calls are the server's own, ahead of the model's first turn."""
        self._calls: dict[int, Called] = {}
        """By the model's numbers, in the order in which they have begun."""

    @property
    def begun(self) -> bool:
        """Whether any of it has been published."""
        return self._message is not None or self._call_step is not None

    @property
    def tokens(self) -> int:
        """How many tokens the prompt and the answer took, as far as the model server said."""
        usage = None if self._finished is None else self._finished.usage
        return 0 if usage is None else usage["total_tokens"]

    @property
    def has_calls(self) -> bool:
        """Whether the model has called a tool."""
        return bool(self._calls)

    @property
    def awaits_outputs(self) -> bool:
        """Whether the model has called a function of the caller's."""
        return any(call.awaited for call in self._calls.values())

    @property
    def server_calls(self) -> list[Called]:
        """The calls that the server executes, or answers, in order."""
        return [call for call in self._calls.values() if not call.awaited]

    def number(self, call: Called) -> int:
        """Returns which call of the run one of the turn's is, from 1."""
        return self._references.calls + call.index + 1

    def equip(self, toolbox: Toolbox, references: References) -> None:
        """Takes, ahead of the turn, the run's tools, and what its earlier turns have left to it."""
        self._toolbox = toolbox
        self._references = references

    async def add(self, *pieces: Piece) -> None:
        """Takes the next pieces of the answer. Raises Unreachable."""
        await self._publish(*[event for piece in pieces for event in await self._take(piece)])

    async def call_ahead(self, arguments: str) -> None:
        """Calls the tools that are called ahead of the model's first turn."""
        self.is_ahead = True
        names = enumerate(self._toolbox.ahead)
        await self.add(*(CallDelta(index, None, name, arguments) for index, name in names))

    async def model_finished(self, finished: Finished) -> None:
        """Takes the end of the model's answer, with what it took. Raises Unreachable."""
        self._finished = finished
        await self._end_text()
        if self._composition is not None and self._toolbox.ahead and finished.reason == "stop":
            await self._publish(*self._composition.cite())

    async def add_to_call(self, call: Called, details: dict[str, Any]) -> None:
        """Adds a piece to a call that the server executes."""
        await self._publish(self._add_to_call(call, details))

    def end_call(self, call: Called, result: Result) -> None:
        """Adds what came of a call that the server has executed."""
        call.result = result
        call.shown[call.shown["type"]] |= result.details

    def answer_function(self, call: Called, output: str) -> None:
        """Gives the output of a call of a function that the caller does not have."""
        call.shown["function"]["output"] = output

    async def finish(self, ending: Ending) -> Saved:
        """Ends the turn as `ending` says, with all that it has open. Raises ClaimLost."""
        if ending.status == RunStatus.completed and self._message is None:
            # An empty answer is a message too, of one empty text.
            await self.add(TextDelta(""))
        await self._end_text()
        saved = await self._claims.save(
            self._claim,
            begun=await self._openings.unwritten(),
            message=self._message_end(ending),
            steps=self._step_ends(ending),
            run=ending.run,
        )
        happened = [build.message(saved.message)] if saved.message else []
        happened += [
            build.step(step, self._claim.run)
            for step in saved.steps
            if step.status != StepStatus.in_progress
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

    async def _take(self, piece: Piece) -> list[Event]:
        match piece:
            case TextDelta(text):
                composition, opened = self._opened_message()
                return [*opened, *await composition.add_text(text)]
            case RefusalDelta(text):
                composition, opened = self._opened_message()
                return [*opened, *composition.add_refusal(text)]
            case CallDelta():
                return self._add_call(piece)

    def _opened_message(self) -> tuple[Composition, list[Event]]:
        """Returns the turn's message, and the events of its beginning if it begins now."""
        if self._composition is not None:
            return self._composition, []
        opening = self._openings.message(ahead_of=self._call_step)
        assert opening.message is not None
        self._message_step, self._message = opening.step, opening.message
        self._composition = Composition(
            opening.message.id,
            self._references,
            partial(self._toolbox.linked, self._claim.run),
            marks=self._toolbox.has(tool_calls.FILE_SEARCH),
            links=self._toolbox.has(tool_calls.CODE_INTERPRETER),
        )
        begun = [*build.step_opened(opening.step), *build.message_opened(opening.message)]
        return self._composition, [*begun, *self._composition.begin()]

    async def _end_text(self) -> None:
        if self._composition is not None:
            await self._publish(*await self._composition.end())

    def _message_end(self, ending: Ending) -> MessageEnd | None:
        if self._message is None or self._composition is None:
            return None
        attachments = self._composition.attachments(last=ending.status == RunStatus.completed)
        content, reason = self._composition.content, ending.message_incomplete
        return MessageEnd(self._message.id, content, reason, attachments)

    def _add_call(self, piece: CallDelta) -> list[Event]:
        happened = []
        if self._call_step is None:
            self._call_step = self._openings.tool_calls().step
            happened += build.step_opened(self._call_step)
        if piece.index not in self._calls:
            call = self._calls[piece.index] = self._begin_call(piece.name or "")
            happened.append(build.call_begun(self._call_step.id, call.index, call.shown))
        if piece.arguments:
            call = self._calls[piece.index]
            call.pieces.append(piece.arguments)
            # What the server executes shows what it makes of them.
            if call.offered is None:
                happened.append(self._add_to_call(call, {"arguments": piece.arguments}))
        return happened

    def _begin_call(self, name: str) -> Called:
        # The id is made here: some model servers give none, or the same one twice.
        call_id, offered = ids.new_id(ids.CALL), self._toolbox[name]
        index, awaited = len(self._calls), False
        if offered is None:
            awaited = self._toolbox.is_function(name)
            return Called(index, tool_calls.function(call_id, name), name, None, awaited)
        return Called(index, tool_calls.of_server(call_id, offered.given), name, offered, awaited)

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
        if any(call.result is not None for call in self._calls.values()):
            kept["executed"] = [call.executed for call in self._calls.values()]
        return kept or None


def _step_error(error: dict[str, str] | None) -> dict[str, str] | None:
    # The contract knows `invalid_prompt` on runs, not on steps.
    if error is not None and error["code"] == "invalid_prompt":
        return error | {"code": "server_error"}
    return error
