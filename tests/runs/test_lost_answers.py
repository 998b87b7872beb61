"""A commit whose answer is lost: the streams show what it has stored, and nothing else."""

from typing import Any

import pytest

from storage import Storage
from storage.claims import Claim, Claims, Saved
from storage.errors import Unreachable
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines
from tests.support.runs.own_tools import Python
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.script import Answer, Calls
from tests.support.storage.rows import get_run, set_run
from tests.support.waiting import until

PAST = 1.0


@pytest.mark.parametrize("released", [True, False])
async def test_a_turn_that_was_stored_is_shown_as_stored(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    released: bool,
) -> None:
    """The run is released at once, or, as that fails too, reclaimed when its lease runs out."""
    save, release = Claims.save, Claims.release
    lost: list[str] = []

    async def losing_save(claims: Claims, claim: Claim, **ends: Any) -> Saved:
        saved = await save(claims, claim, **ends)
        if ends.get("steps") and not lost:
            lost.append("save")
            raise Unreachable("the answer is lost")
        return saved

    async def losing_release(claims: Claims, claim: Claim) -> Any:
        lost.append("release")
        if not released:
            raise Unreachable("the database is away")
        return await release(claims, claim)

    monkeypatch.setattr(Claims, "save", losing_save)
    monkeypatch.setattr(Claims, "release", losing_release)
    call = ("python", {"code": "1"})
    model = models.script(Calls(call, text="Let me see"), Answer("Done"))
    tools = [{"type": "code_interpreter"}]
    following = await engines.run(engines.start(Python()), model, tools=tools)
    await until(lambda: lost == ["save", "release"])
    if not released:
        await set_run(storage, following.run, lease_until=PAST)
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]
    check_stream(following.events, interrupted=False)
    await check_stored(storage, following.run, [following.events])
    assert "thread.run.step.failed" not in following.names
    assert (await get_run(storage, following.run)).attempt > 1
