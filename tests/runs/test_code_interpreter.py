"""Runs whose models call the code interpreter: steps, messages, files, and whatever breaks in."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.runner.tools.logs import SEEN, SHOWN
from service.sandbox.settings import SandboxSettings
from storage import Storage
from storage.database import Database
from storage.rows import Run, RunStep
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.interpreters import PYTHON, Interpreter, interpreting
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.sandbox.calls import commands_with
from tests.support.sandbox.places import temporary_root
from tests.support.script import Answer, Calls, Step
from tests.support.sequences import CALLING, COMPLETED, QUEUED, SPEAKING
from tests.support.storage.rows import PROJECT, get_run
from tests.support.waiting import until

EXECUTED = [*CALLING[:3], "thread.run.step.completed"]
FUNCTION = {"type": "function", "function": {"name": "f", "strict": False}}

PNG = "from PIL import Image\ndisplay(Image.new('RGB', (4, 4)))\n"
CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"


@pytest.fixture
async def storage(tmp_path: Path, migrated_file: Path) -> AsyncIterator[Storage]:
    """On SQLite: what is particular here is not the database's."""
    database = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'assistants.db')}")
    yield Storage(database)
    await database.close()


@pytest.fixture
def root() -> Iterator[Path]:
    with temporary_root() as root:
        yield root


@pytest.fixture
async def interpreter(storage: Storage, root: Path) -> AsyncIterator[Interpreter]:
    async with interpreting(storage, root) as made:
        yield made


def code(text: str) -> Calls:
    return Calls(("python", {"code": text}))


async def ran(
    engines: Engines, interpreter: Interpreter, models: ModelServer, *steps: Step, **changes: Any
) -> Following:
    """Returns a run of these steps that has ended, with its stream."""
    engine = engines.start(interpreter.tool)
    model = models.script(*steps)
    following = await engines.run(engine, model, **{"tools": [PYTHON], **changes})
    await following.ended()
    check_stream(following.events, interrupted=False)
    await check_stored(engines.storage, following.run, [following.events])
    return following


async def calls(engines: Engines, run: Run) -> list[dict[str, Any]]:
    """Returns what the steps of a run show of its code."""
    steps = [step for step in await engines.steps(run) if step.type == "tool_calls"]
    return [
        call["code_interpreter"]
        for step in steps
        for call in step.step_details["tool_calls"]
        if call["type"] == "code_interpreter"
    ]


def logs(text: str) -> list[dict[str, str]]:
    return [{"type": "logs", "logs": text}]


def outputs(models: ModelServer, run: Run) -> list[str]:
    """Returns what the model was given of its calls, by the last request."""
    request = models.requests(run.model)[-1]
    return [each["content"] for each in request["messages"] if each["role"] == "tool"]


async def last_message(storage: Storage, run: Run) -> Any:
    from storage.pages import PageRequest

    page = PageRequest(limit=1)
    return (await storage.messages.list(PROJECT, run.thread_id, page)).data[0]


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
    first_call = [each.code_interpreter for each in pieces if each.id or each.index == 0]
    assert not first_call[0].input and not first_call[0].outputs
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


async def test_images_are_files_and_parts_of_the_next_message(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    both = f"{PNG}print('between')\n{CHART}"
    following = await ran(engines, interpreter, models, code(both), Answer("Here they are."))
    [call] = await calls(engines, following.run)
    first, text, second = call["outputs"]
    assert text == {"type": "logs", "logs": "between\n"}
    ids = [first["image"]["file_id"], second["image"]["file_id"]]
    for file_id in ids:
        file = await interpreter.files.get(PROJECT, file_id)
        assert file is not None
        assert file.purpose == "assistants_output"
        assert file.filename.endswith(".png")
        assert (await interpreter.content(file_id)).startswith(b"\x89PNG")
    message = await last_message(storage, following.run)
    assert [part.get("image_file") for part in message.content[:2]] == [
        {"file_id": file_id} for file_id in ids
    ]
    assert message.content[2]["text"]["value"] == "Here they are."
    assert all(file_id in outputs(models, following.run)[0] for file_id in ids)


async def test_linked_files_are_annotations_and_attachments(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    written = "open('a b.csv', 'w').write('1,2')\nopen('c.txt', 'w').write('c')\nNone"
    text = "Take [it](sandbox:/mnt/data/a%20b.csv), not sandbox:/mnt/data/none.csv."
    following = await ran(engines, interpreter, models, code(written), Answer(text))
    message = await last_message(storage, following.run)
    [part] = message.content
    assert part["text"]["value"] == text
    [annotation] = part["text"]["annotations"]
    assert annotation["type"] == "file_path"
    link = "sandbox:/mnt/data/a%20b.csv"
    assert annotation["text"] == link
    assert text[annotation["start_index"] : annotation["end_index"]] == link
    file_id = annotation["file_path"]["file_id"]
    assert await interpreter.content(file_id) == b"1,2"
    file = await interpreter.files.get(PROJECT, file_id)
    assert file is not None
    assert file.filename == "a b.csv"
    linked, left = message.attachments
    assert linked == {"file_id": file_id, "tools": [PYTHON]}
    assert await interpreter.content(left["file_id"]) == b"c"
    assert outputs(models, following.run) == ["[Written: /mnt/data/a b.csv, /mnt/data/c.txt]"]


async def test_what_an_earlier_run_wrote_can_be_linked_to(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    many = "for i in range(23): open(f'{i}.txt', 'w').write(str(i))"
    following = await ran(engines, interpreter, models, code(many), Answer("Done."))
    message = await last_message(storage, following.run)
    assert len(message.attachments) == 20
    run = following.run
    text = "[a](sandbox:/mnt/data/0.txt) [b](sandbox:/mnt/data/22.txt)"
    model = models.script(Answer(text))
    from tests.support.storage.rows import new_run

    engine = engines.one
    draft = new_run(model=model, tools=[PYTHON])
    again, first = await engine.start(
        lambda claim: storage.runs.create(PROJECT, run.thread_id, draft, [], claim=claim)
    )
    await Following(again, engine.streams.follow(again, first), engine).ended()
    [part] = (await last_message(storage, again)).content
    ids = [each["file_path"]["file_id"] for each in part["text"]["annotations"]]
    assert [await interpreter.content(file_id) for file_id in ids] == [b"0", b"22"]
    # What is a file already is not made again.
    assert ids[1] in [each["file_id"] for each in message.attachments]


async def test_given_files_are_there_by_id_and_by_name(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    a = await interpreter.given("../a:b.csv", b"1")
    b = await interpreter.given("a:b.csv", b"2")
    read = (
        "import os\n"
        f"print([open(p).read() for p in ('{a.id}', 'a:b.csv', '{b.id}', 'a:b (2).csv')])\n"
        "open('a:b.csv', 'w').write('3')\n"
        f"open('{a.id}').read()"
    )
    resources = {"code_interpreter": {"file_ids": [a.id, b.id, "file-gone"]}}
    following = await ran(
        engines, interpreter, models, code(read), Answer("Read."), tool_resources=resources
    )
    [call] = await calls(engines, following.run)
    assert call["outputs"] == logs("['1', '1', '2', '2']\n'3'\n")
    [offered] = models.requests(following.run.model)[0]["tools"]
    description = offered["function"]["description"]
    assert f"/mnt/data/a:b.csv ({a.id}), /mnt/data/a:b (2).csv ({b.id})" in description
    # What the code has changed is a file of its own.
    [attached] = (await last_message(storage, following.run)).attachments
    assert await interpreter.content(attached["file_id"]) == b"3"
    assert await interpreter.content(a.id) == b"1"


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


ENDLESS = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.1)"


async def begun(following: Following) -> None:
    """Waits until the endless code runs."""

    def shown() -> bool:
        pieces = [piece for event in following.events for piece in event.run_step_delta.tool_calls]
        return any(each.logs for piece in pieces for each in piece.code_interpreter.outputs)

    await until(shown)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_whatever_ends_the_run_kills_the_code(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage, how: str
) -> None:
    engine = engines.start(interpreter.tool)
    model = models.script(code(ENDLESS))
    lifetime = 600 if how == "cancelled" else 5
    following = await engines.run(engine, model, tools=[PYTHON], lifetime=lifetime)
    await begun(following)
    assert running(interpreter)
    if how == "cancelled":
        run = following.run
        await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    assert (await following.ended())[-2] == f"thread.run.{how}"
    await until(lambda: not running(interpreter))
    [step] = await engines.steps(following.run)
    assert step.status == how
    assert await calls(engines, following.run) == [{"input": ENDLESS, "outputs": logs("begun\n")}]


def running(interpreter: Interpreter) -> list[int]:
    """Returns the processes of sessions."""
    return commands_with(os.fspath(interpreter.root))


async def test_a_deleted_thread_takes_its_session_and_its_files_along(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    engine = engines.start(interpreter.tool)
    following = await engines.run(engine, models.script(code(ENDLESS)), tools=[PYTHON])
    await begun(following)
    run = following.run
    assert (interpreter.root / run.thread_id).exists()
    for ended in await storage.threads.delete(PROJECT, run.thread_id):
        await engine.announce(ended)
    engine.forget(run.thread_id)
    await following.ended()
    await until(lambda: not running(interpreter))
    await until(lambda: not (interpreter.root / run.thread_id).exists())


async def test_files_of_threads_that_are_gone_are_swept(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    gone = await ran(engines, interpreter, models, code("1"), Answer("One."))
    await engines.stop()
    kept = await ran(engines, interpreter, models, code("1"), Answer("One."))
    await storage.threads.delete(PROJECT, gone.run.thread_id)
    await interpreter.tool.sweep(before=0)
    assert {path.name for path in interpreter.root.iterdir()} == {
        gone.run.thread_id,
        kept.run.thread_id,
    }
    await interpreter.tool.sweep(before=2**40)
    assert [path.name for path in interpreter.root.iterdir()] == [kept.run.thread_id]


async def test_a_call_that_takes_too_long(
    engines: Engines, storage: Storage, root: Path, models: ModelServer
) -> None:
    async with interpreting(storage, root, seconds=1) as interpreter:
        slow = "x = 1\nimport time\ntime.sleep(1000)"
        following = await ran(engines, interpreter, models, code(slow), code("x"), Answer("Slow."))
        first, second = await calls(engines, following.run)
        assert "KeyboardInterrupt" in first["outputs"][0]["logs"]
        assert first["outputs"][0]["logs"].endswith(
            "[The code was interrupted: it took longer than 1 seconds.]\n"
        )
        assert second["outputs"] == logs("1\n")


async def test_a_session_that_ends_in_a_call(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    lost = "open('kept', 'w').write('kept')\nimport os\nos._exit(3)"
    following = await ran(
        engines, interpreter, models, code(lost), code("open('kept').read()"), Answer("Lost.")
    )
    first, second = await calls(engines, following.run)
    assert "The Python session has ended: its process ended" in first["outputs"][0]["logs"]
    assert second["outputs"] == logs("'kept'\n")
    assert "files in /mnt/data are kept" in outputs(models, following.run)[0]


async def test_without_a_sandbox_the_run_fails(
    engines: Engines, storage: Storage, root: Path, models: ModelServer
) -> None:
    from service.runner.tools.code_interpreter import CodeInterpreter

    async with interpreting(storage, root) as made:
        tool = CodeInterpreter(SandboxSettings(root, engine="off"), storage.threads, made.files)
        tool.start()
        following = await engines.run(engines.start(tool), models.script(), tools=[PYTHON])
        assert (await following.ended())[-2] == "thread.run.failed"
        run = await get_run(storage, following.run)
        assert run.last_error == {
            "code": "server_error",
            "message": "Tool 'code_interpreter' is not available on this server: "
            "it is switched off.",
        }
        await tool.close()


async def test_a_given_file_that_is_deleted_goes(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    file = await interpreter.given("a.csv", b"1")
    resources = {"code_interpreter": {"file_ids": [file.id]}}
    following = await ran(
        engines, interpreter, models, code("1"), Answer("."), tool_resources=resources
    )
    await storage.files.delete(PROJECT, file.id)
    run = following.run
    sessions = interpreter.root / run.thread_id / "data"
    assert sorted(os.listdir(sessions)) == ["a.csv", file.id]
    await interpreter.tool.offer(run, PYTHON)
    assert os.listdir(sessions) == []


async def test_sessions_of_many_threads_take_turns(
    engines: Engines, storage: Storage, root: Path, models: ModelServer
) -> None:
    from service.sandbox.limits import Lifetimes

    async with interpreting(storage, root, Lifetimes(sessions=1)) as interpreter:
        engine = engines.start(interpreter.tool)
        several = [
            await engines.run(engine, models.script(code(f"{at}"), Answer("Done.")), tools=[PYTHON])
            for at in range(3)
        ]
        await asyncio.gather(*(each.ended() for each in several))
        for at, following in enumerate(several):
            assert await calls(engines, following.run) == [
                {"input": f"{at}", "outputs": logs(f"{at}\n")}
            ]


def steps_of(steps: list[RunStep]) -> list[str]:
    return [step.type for step in steps]
