"""Files that code is given, those that it makes, and what messages say of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from service.sandbox.limits import KIB, MIB
from storage import Storage
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.interpreters import (
    PYTHON,
    Interpreter,
    calls,
    code,
    interpreting,
    last_message,
    logs,
    outputs,
    ran,
)
from tests.support.script import Answer
from tests.support.storage.rows import PROJECT, new_run

PNG = "from PIL import Image\ndisplay(Image.new('RGB', (4, 4)))\n"
CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"


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
    many = "for i in range(23): open(f'{i} %41.txt', 'w').write(str(i))"
    following = await ran(engines, interpreter, models, code(many), Answer("Done."))
    message = await last_message(storage, following.run)
    assert len(message.attachments) == 20
    run = following.run
    text = "[a](sandbox:/mnt/data/0%20%2541.txt) [b](sandbox:/mnt/data/22 %41.txt)"
    model = models.script(Answer(text))
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


async def test_of_many_files_the_model_is_told_some(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    many = "for i in range(70): open(f'{i:03}', 'w').write(str(i))"
    following = await ran(engines, interpreter, models, code(many), Answer("Done."))
    [seen] = outputs(models, following.run)
    written, left = seen.splitlines()
    assert written.count("/mnt/data/") == 20
    assert left.count("/mnt/data/") == 20
    assert left.endswith(" and 30 more]")


@pytest.mark.parametrize(
    ("limits", "size"), [({"disk": 4 * MIB}, 1800 * KIB), ({"files": 5}, 1)], ids=["disk", "files"]
)
async def test_given_files_that_have_no_room_are_left_out(
    engines: Engines,
    models: ModelServer,
    storage: Storage,
    root: Path,
    limits: dict[str, Any],
    size: int,
) -> None:
    """Those that would not be there when the session starts, or would end it."""
    async with interpreting(storage, root, **limits) as interpreter:
        a, b, c = [await interpreter.given(f"{name}.csv", b"x" * size) for name in "abc"]
        resources = {"code_interpreter": {"file_ids": [a.id, b.id, c.id]}}
        listed = code("import os, time\ntime.sleep(0.5)\nprint(*sorted(os.listdir()))")
        following = await ran(
            engines, interpreter, models, listed, listed, Answer("."), tool_resources=resources
        )
        there = logs(f"a.csv b.csv {min(a.id, b.id)} {max(a.id, b.id)}\n")
        assert [call["outputs"] for call in await calls(engines, following.run)] == [there] * 2
        [offered] = models.requests(following.run.model)[0]["tools"]
        description = offered["function"]["description"]
        assert f"/mnt/data/a.csv ({a.id}), /mnt/data/b.csv ({b.id})." in description
        assert f"could not be put there: c.csv ({c.id}, {size} bytes)" in description


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
