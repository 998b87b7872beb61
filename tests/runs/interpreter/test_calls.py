"""What streams show of calls, what steps keep, and what models are given."""

from service.runner.tools.logs import SEEN, SHOWN
from storage import Storage
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.interpreters import PYTHON, Interpreter, calls, code, logs, outputs, ran
from tests.support.script import Answer, Calls
from tests.support.sequences import CALLING, COMPLETED, QUEUED, SPEAKING
from tests.support.storage.rows import PROJECT

EXECUTED = [*CALLING[:3], "thread.run.step.completed"]
FUNCTION = {"type": "function", "function": {"name": "f", "strict": False}}


async def test_output_is_in_order_and_state_is_kept(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    first = "import sys\nx = 20\nprint('out')\nprint('err', file=sys.stderr)\nx + 1"
    following = await ran(
        engines, interpreter, models, code(first), code("x * 2"), Answer("Forty.")
    )
    assert following.names == [*QUEUED, *EXECUTED, *EXECUTED, *SPEAKING, *COMPLETED]
    assert await calls(engines, following.run) == [
        {"input": first, "outputs": logs("out\nerr\n21\n")},
        {"input": "x * 2", "outputs": logs("40\n")},
    ]
    assert outputs(models, following.run) == ["out\nerr\n21", "40"]
    pieces = [piece for event in following.events for piece in event.run_step_delta.tool_calls]
    begun = pieces[0].code_interpreter
    assert (begun.input, list(begun.outputs)) == ("", [])
    [offered] = models.requests(following.run.model)[0]["tools"]
    assert offered["function"]["name"] == "python"
    assert "60 seconds" in offered["function"]["description"]


async def test_an_error_is_output(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    following = await ran(
        engines, interpreter, models, code("print('before')\n1 / 0"), Answer("It cannot be done.")
    )
    [call] = await calls(engines, following.run)
    [output] = call["outputs"]
    assert output["logs"].startswith("before\n")
    assert "Traceback" in output["logs"]
    assert output["logs"].endswith("ZeroDivisionError: division by zero\n")
    assert [step.status for step in await engines.steps(following.run)] == ["completed"] * 2


async def test_no_output_and_no_code(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    following = await ran(engines, interpreter, models, code("x = 1"), code(" "), Answer("Well."))
    assert [call["outputs"] for call in await calls(engines, following.run)] == [[], []]
    nothing, no_code = outputs(models, following.run)
    assert nothing == "[The code has put out nothing.]"
    assert no_code.startswith("No code was given")


async def test_long_logs_are_cut_in_the_middle(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    following = await ran(
        engines, interpreter, models, code("print('a' * 120_000)\nprint('end')"), Answer("Long.")
    )
    [call] = await calls(engines, following.run)
    [output] = call["outputs"]
    note = f"\n[… {120_005 - SHOWN} characters left out …]\n"
    assert output["logs"] == "a" * (SHOWN // 2) + note + "a" * (SHOWN // 2 - 5) + "\nend\n"
    [seen] = outputs(models, following.run)
    note = f"\n[… {120_005 - SEEN} characters left out …]\n"
    assert seen == "a" * (SEEN // 2) + note + "a" * (SEEN // 2 - 5) + "\nend"


async def test_functions_beside_it(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    engine = engines.start(interpreter.tool)
    mixed = Calls(("f", {"a": 1}), ("python", "6 * 7"))
    model = models.script(mixed, Answer("Both."))
    following = await engines.run(engine, model, tools=[FUNCTION, PYTHON])
    assert (await following.ended())[-2] == "thread.run.requires_action"
    found = await storage.runs.get(PROJECT, following.run.thread_id, following.run.id)
    assert found.pending is not None
    function, python = found.pending.step_details["tool_calls"]
    assert python["code_interpreter"] == {"input": "6 * 7", "outputs": logs("42\n")}
    run, first = await engines.submit(engine, following.run, (function["id"], "x"))
    after = Following(run, engine.streams.follow(run, first), engine)
    assert (await after.ended())[-2] == "thread.run.completed"
    assert outputs(models, run) == ["x", "42"]


async def test_the_first_call_can_be_forced(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    following = await ran(
        engines, interpreter, models, code("1"), Answer("One."), tool_choice=PYTHON
    )
    first, second = models.requests(following.run.model)
    assert first["tool_choice"] == {"type": "function", "function": {"name": "python"}}
    assert "tool_choice" not in second or second["tool_choice"] == "auto"
