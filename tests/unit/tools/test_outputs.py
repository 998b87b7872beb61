"""What the model sees of a call's outputs, as far as its context has room."""

from typing import cast

import pytest

from service.runner.tools.files import Files
from service.runner.tools.logs import SEEN
from service.runner.tools.outputs import LEAST, Outputs
from service.runner.tools.tool import Call
from service.sandbox.limits import Limits
from service.sandbox.port import Text
from tests.support.types import samples


@pytest.mark.parametrize(
    ("room", "most"), [(None, SEEN), (10**6, SEEN), (1001, 4004), (10, LEAST), (0, LEAST)]
)
async def test_logs_take_no_more_than_there_is_room_for(room: int | None, most: int) -> None:
    call = Call("call_1", samples.run(), 1, "", {}, room)
    outputs = Outputs(call, cast(Files, None), Limits())
    await outputs.take(Text("a" * 50_000))
    note = f"\n[… {50_000 - most} characters left out …]\n"
    half = "a" * (most // 2)
    assert outputs.for_model({}, []) == half + note + half
