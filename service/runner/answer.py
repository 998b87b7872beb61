"""What a model has answered so far in one turn: in storage, on the stream, and in memory.

Storage gets a step when it begins and again when it ends; the pieces between go to the stream only,
which waits for neither. An attempt that dies leaves nothing but open rows, which the next one
withdraws.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from service.models.client import CallDelta, Piece, RefusalDelta, TextDelta
from service.models.replay import Replay
from service.runner.events import build
from service.runner.events.publisher import Publisher
from service.runner.openings import Openings
from service.types import tool_calls
from service.types.events import Event
from storage import ids, transitions
from storage.claims import Claim, Claims, MessageEnd, RunEnd, StepEnd
from storage.tables import Message, Run, RunStatus, RunStep, StepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a turn ends: what becomes of the run, and why."""

    status: RunStatus
    message_incomplete: str | None = None
    last_error: dict[str, str] | None = None
    incomplete_reason: str | None = None
    usage: dict[str, int] | None = None
    replay: Replay | None = None

    @property
    def run(self) -> RunEnd:
        """What is saved of it on the run itself."""
        return RunEnd(self.status, self.last_error, self.incomplete_reason)


class Answer:
    """The message and the calls of one turn, opened as the model comes to them."""

    def __init__(
        self, claims: Claims, claim: Claim, publisher: Publisher, openings: Openings
    ) -> None:
        """Writes under `claim`; tells `publisher` what happens."""
        self._claims = claims
        self._claim = claim
        self._publisher = publisher
        self._openings = openings
        self._message: Message | None = None
        self._message_step: RunStep | None = None
        self._call_step: RunStep | None = None
        self._parts: dict[str, list[str]] = {}
        """The pieces of the text and of the refusal, whichever came first standing first."""
        self._calls: dict[int, dict[str, Any]] = {}

    @property
    def begun(self) -> bool:
        """Whether any of it has been told to the run's followers."""
        return self._message is not None or self._call_step is not None

    @property
    def has_calls(self) -> bool:
        """Whether the model has called a function."""
        return bool(self._calls)

    async def add(self, *pieces: Piece) -> None:
        """Takes the next pieces of the answer."""
        await self._publish(*(event for piece in pieces for event in self._take(piece)))

    async def finish(self, ending: Ending) -> Run | None:
        """Ends the run as `ending` says, with all that the turn has open. Raises ClaimLost.

        Returns the run that waited behind it and may be executed now.
        """
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
        return saved.released

    async def discard(self, ending: Ending) -> Run | None:
        """Ends the run without what the turn has open, which is withdrawn. Otherwise as `finish`.

        For a turn whose own end cannot be written.
        """
        await self._openings.unwritten()
        saved = await self._claims.save(self._claim, run=ending.run)
        assert saved.run is not None
        at = saved.run.failed_at or saved.run.cancelled_at
        await self._publisher.withdraw(saved.run, saved.withdrawn, at, *build.run(saved.run))
        return saved.released

    async def release(self) -> None:
        """Gives the run back without what the turn has open, which is withdrawn. Raises ClaimLost.

        If the database is away, this raises Unreachable, and the lease runs out.
        """
        await self._openings.unwritten()
        withdrawn = await self._claims.release(self._claim)
        run = self._claim.run
        await self._publisher.withdraw(run, withdrawn, run.started_at)

    async def close(self) -> None:
        """Waits for what is still being written. It will not be told of any more."""
        await self._openings.close()

    async def _publish(self, *happened: Event) -> None:
        await self._publisher.tell(self._claim.run.id, self._claim.attempt, *happened)

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
        """Returns the turn's message, and what there is to tell if it begins now."""
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
        step_id = self._call_step.id
        if piece.index not in self._calls:
            # The id is ours: some servers give none, or the same one twice.
            name, call_id = piece.name or "", ids.new_id(ids.CALL)
            call = self._calls[piece.index] = tool_calls.begun("function", call_id, name)
            index = list(self._calls).index(piece.index)
            happened.append(build.call_begun(step_id, index, call))
        if piece.arguments:
            self._calls[piece.index]["function"]["arguments"] += piece.arguments
            index = list(self._calls).index(piece.index)
            details = {"arguments": piece.arguments}
            happened.append(build.call_delta(step_id, index, "function", details))
        return happened

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
                    step_details={"type": "tool_calls", "tool_calls": list(self._calls.values())},
                )
            )
        if ends:
            # What the turn took stands on its last step, so that the run's sum counts it once.
            # So does what the model server gets back with the turn.
            ends[-1] = dataclasses.replace(
                ends[-1], usage=ending.usage, replay=self._replay(ending.replay)
            )
        return ends

    def _replay(self, replay: Replay | None) -> dict[str, Any] | None:
        if replay is None:
            return None
        # A call stands where its name came, which may be after a later call's.
        calls = [replay.calls[index] for index in self._calls]
        return {"turn": replay.turn, "calls": calls}


def _step_error(error: dict[str, str] | None) -> dict[str, str] | None:
    # The contract knows `invalid_prompt` on runs, not on steps.
    if error is not None and error["code"] == "invalid_prompt":
        return error | {"code": "server_error"}
    return error
