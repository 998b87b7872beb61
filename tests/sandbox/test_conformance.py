"""What every engine does: the port's promises, one by one."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from service.sandbox.folder import FileRefused, FileTooLarge
from service.sandbox.limits import MIB
from service.sandbox.port import Error, Image, Sandbox, SessionClosed, Text
from tests.support.sandbox.calls import call, commands_with
from tests.support.sandbox.places import Open
from tests.support.waiting import until

PNG = b"\x89PNG\r\n\x1a\n"


async def test_state_is_kept_between_calls(opened: Open) -> None:
    session = await opened()
    assert (await call(session, "x = 20")).events == []
    outcome = await call(session, "x + 1")
    assert outcome.events == [Text("21\n")]
    assert outcome.end.lost is None
    assert not outcome.end.interrupted


async def test_text_of_all_kinds_is_in_order(opened: Open) -> None:
    code = """
import os, sys
print("one")
print("two", file=sys.stderr)
os.write(1, b"three\\n")
display("four")
5
"""
    outcome = await call(await opened(), code)
    assert outcome.text == "one\ntwo\nthree\n'four'\n5\n"


async def test_text_comes_while_the_code_runs(opened: Open) -> None:
    session = await opened()
    async with aclosing(session.run("print('first')\nimport time\ntime.sleep(1000)")) as events:
        assert await anext(events) == Text("first\n")


async def test_exceptions_have_a_traceback(opened: Open) -> None:
    outcome = await call(await opened(), "print('before')\n1 / 0")
    text, error = outcome.events
    assert text == Text("before\n")
    assert isinstance(error, Error)
    assert (error.name, error.value) == ("ZeroDivisionError", "division by zero")
    assert "line 2" in error.traceback
    assert "\x1b" not in error.traceback
    assert outcome.end.lost is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def", "SyntaxError"),
        ("input()", "EOFError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("exit()", "SystemExit"),
    ],
)
async def test_other_ways_to_fail(opened: Open, code: str, name: str) -> None:
    session = await opened()
    assert [error.name for error in (await call(session, code)).errors] == [name]
    assert (await call(session, "1")).text == "1\n"


async def test_figures_and_images_come_as_images(opened: Open) -> None:
    code = """
import matplotlib.pyplot as plt
from PIL import Image
plt.plot([1, 2, 3])
plt.show()
print("between")
Image.new("RGB", (2, 2))
"""
    outcome = await call(await opened(), code)
    assert [type(event) for event in outcome.events] == [Image, Text, Image]
    assert all(image.mime == "image/png" for image in outcome.images)
    assert all(image.data.startswith(PNG) for image in outcome.images)


async def test_an_unshown_figure_is_shown_at_the_end(opened: Open) -> None:
    session = await opened()
    outcome = await call(session, "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])")
    assert len(outcome.images) == 1
    assert (await call(session, "1")).images == []


async def test_a_large_image_is_left_out(opened: Open) -> None:
    session = await opened(frame=MIB)
    code = """
import os
from PIL import Image
Image.frombytes("RGB", (600, 600), os.urandom(600 * 600 * 3))
"""
    outcome = await call(session, code)
    assert outcome.images == []
    assert "is too large to show" in outcome.text
    assert outcome.end.lost is None
    assert len((await call(session, "Image.new('L', (1, 1))")).images) == 1


@pytest.mark.parametrize("data", ["b''", "b'nothing'", "'nothing'", "'iVBO'", "5", "[b'']"])
async def test_what_is_no_image_is_shown_as_text(opened: Open, data: str) -> None:
    session = await opened()
    outcome = await call(
        session, f"display({{'image/png': {data}, 'text/plain': 'an image'}}, raw=True)"
    )
    assert outcome.events == [Text("an image\n")]
    assert outcome.end.lost is None


async def test_surplus_images_are_left_out(opened: Open) -> None:
    code = "from PIL import Image\nfor i in range(5): display(Image.new('L', (1, 1)))"
    outcome = await call(await opened(images=2), code)
    assert len(outcome.images) == 2
    assert outcome.text == "[3 more images are left out]\n"


async def test_undecodable_and_unusual_characters(opened: Open) -> None:
    session = await opened()
    code = r"""
import os
print("ä€😀")
for byte in "😀".encode(): os.write(1, bytes([byte]))
os.write(1, b"\xff\x00\n")
print("\ud800")
"""
    assert (await call(session, code)).text == "ä€😀\n😀\ufffd\ufffd\n?\n"
    error = (await call(session, r"raise ValueError('\ud800\0')")).errors[0]
    assert error.value == "?\ufffd"


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout = sys.stderr = None",
        "import sys\nsys.stdout = open('file', 'w')",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')",
        "import os\nos.close(1)\nos.close(2)",
        "import os\nos.closerange(0, 3)",
    ],
)
async def test_output_that_the_code_has_closed_or_replaced(opened: Open, code: str) -> None:
    session = await opened()
    assert (await call(session, code)).end.lost is None
    assert (await call(session, "print('a')\nos_ = __import__('os')\n2")).text == "a\n2\n"
    assert (await call(session, "os_.write(2, b'c')\n4")).text == "c4\n"


async def test_output_that_is_not_flushed(opened: Open) -> None:
    code = "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('a')"
    assert (await call(await opened(), code)).text == "a\n"


async def test_a_fork_says_what_it_prints_and_no_more(opened: Open) -> None:
    session = await opened()
    code = """
import os, sys
def fork():
    if child := os.fork(): return os.waitpid(child, 0)[1]
    print("forked")
    display({"image/png": "iVBORw0KGgo="}, raw=True)
    1 / 0
try: print(fork())
except OSError: print("forked\\n0")  # Landlock alone has one process.
"""
    outcome = await call(session, code)
    assert outcome.text == "forked\n0\n"
    assert (await call(session, "1")).text == "1\n"


async def test_long_text_is_cut_in_the_middle(opened: Open) -> None:
    session = await opened(text=1000)
    outcome = await call(session, "print('a' * 2000 + 'b' * 2000)")
    assert outcome.text == "a" * 500 + "\n[... 3001 bytes left out ...]\n" + "b" * 499 + "\n"
    assert (await call(session, "print('again')")).text == "again\n"


async def test_a_long_call_is_interrupted_and_state_is_kept(opened: Open) -> None:
    session = await opened(seconds=0.5, grace=30)
    await call(session, "x = 1")
    outcome = await call(session, "while True: pass")
    assert outcome.end.interrupted
    assert outcome.end.lost is None
    assert [error.name for error in outcome.errors] == ["KeyboardInterrupt"]
    assert (await call(session, "x")).text == "1\n"


async def test_a_call_that_ignores_the_interrupt_ends_the_session(
    opened: Open, make: Callable[..., Sandbox]
) -> None:
    session = await opened(seconds=0.5, grace=0.5)
    code = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
open("kept", "w").write("kept")
while True: time.sleep(1)
"""
    outcome = await call(session, code)
    assert outcome.end.interrupted
    assert outcome.end.lost == "it went on after the interrupt"
    assert session.lost == outcome.end.lost
    with pytest.raises(SessionClosed):
        await call(session, "1")


async def test_an_interpreter_that_ends_takes_the_session_with_it(opened: Open) -> None:
    session = await opened()
    outcome = await call(session, "import os\nos._exit(3)")
    assert outcome.end.lost is not None
    assert outcome.end.lost.startswith("its process ended")


async def test_top_level_await_and_threads(opened: Open) -> None:
    code = """
import asyncio, threading
await asyncio.sleep(0)
thread = threading.Thread(target=print, args=("from a thread",))
thread.start()
thread.join()
"""
    assert (await call(await opened(), code)).text == "from a thread\n"


async def test_what_a_thread_prints_between_calls_comes_with_the_next(opened: Open) -> None:
    session = await opened()
    code = """
import threading, time
def late():
    gate.wait()
    print("late")
    said.set()
gate, said = threading.Event(), threading.Event()
threading.Thread(target=late).start()
threading.Timer(0.2, gate.set).start()
"""
    assert (await call(session, code)).text == ""
    await asyncio.sleep(0.4)
    assert (await call(session, "said.wait(30)\nprint('next')")).text.splitlines()[-1] == "next"
    assert session.lost is None


async def test_too_much_code_is_refused(opened: Open) -> None:
    session = await opened(code=1024)
    assert [error.name for error in (await call(session, "#" * 1025)).errors] == ["ValueError"]
    assert (await call(session, "1" + " " * 1000)).text == "1\n"


async def test_closing_the_iterator_kills_the_code(opened: Open) -> None:
    session = await opened()
    async with aclosing(session.run("print(1)\nimport time\ntime.sleep(1000)")) as events:
        await anext(events)
    assert session.lost == "its call was given up"


async def test_cancelling_the_caller_kills_the_code(opened: Open) -> None:
    session = await opened()
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(session.run("print(1)\nimport time\ntime.sleep(1000)")) as events:
            async for _ in events:
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session.lost is not None


async def test_closing_during_a_call(opened: Open) -> None:
    session = await opened()
    async with aclosing(session.run("print(1)\nimport time\ntime.sleep(1000)")) as events:
        await anext(events)
        await session.close()
        with pytest.raises(SessionClosed):
            await anext(events)
    await session.close()


async def test_nothing_is_left_of_a_closed_session(make: Callable[..., Sandbox]) -> None:
    session = await make().open("thread")
    mark = secrets.token_hex(8)
    code = f"""
import subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
try:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", {mark!r}],
                     start_new_session=True)
except OSError:
    pass
"""
    await call(session, code)
    await session.close()
    await until(lambda: commands_with(mark) == [])


async def test_files_pass_both_ways(make: Callable[..., Sandbox]) -> None:
    sandbox = make()
    folder = sandbox.folder("thread")
    await folder.put("in.csv", b"a,b\n1,2\n")
    session = await sandbox.open("thread")
    try:
        code = """
import os, pandas
table = pandas.read_csv("/mnt/data/in.csv")
table.to_csv("/mnt/data/out.csv", index=False)
os.makedirs("/mnt/data/a/b", exist_ok=True)
open("/mnt/data/a/b/c.txt", "w").close()
print(os.getcwd(), sorted(os.listdir("/mnt/data")))
"""
        outcome = await call(session, code)
        assert outcome.text == "/mnt/data ['a', 'in.csv', 'out.csv']\n"
        assert [entry.path for entry in await folder.list()] == ["a/b/c.txt", "in.csv", "out.csv"]
        assert b"".join([chunk async for chunk in folder.get("out.csv")]) == b"a,b\n1,2\n"

        await folder.put("in.csv", b"new")
        await folder.remove("out.csv")
        code = "print(open('in.csv').read(), os.listdir())\nos.remove('a/b/c.txt')"
        assert (await call(session, code)).text.startswith("new [")
        assert [entry.path for entry in await folder.list()] == ["in.csv"]
    finally:
        await session.close()


async def test_a_file_that_the_server_put_can_be_changed(make: Callable[..., Sandbox]) -> None:
    sandbox = make()
    folder = sandbox.folder("thread")
    await folder.put("deep/er/file", b"old")
    session = await sandbox.open("thread")
    try:
        await folder.put("late", b"old")
        code = "for name in ('deep/er/file', 'late'):\n    open(name, 'a').write(' and new')"
        assert (await call(session, code)).text == ""
        for path in ("deep/er/file", "late"):
            content = b"".join([chunk async for chunk in folder.get(path)])
            assert content == b"old and new"
    finally:
        await session.close()


async def test_files_outlive_sessions(make: Callable[..., Sandbox]) -> None:
    sandbox = make()
    for number in range(2):
        session = await sandbox.open("thread")
        other = await sandbox.open("other")
        await call(other, "open('theirs', 'w').close()")
        outcome = await call(
            session, f"open('f{number}', 'w').close()\nimport os\nsorted(os.listdir())"
        )
        assert outcome.text == str([f"f{each}" for each in range(number + 1)]) + "\n"
        await session.close()
        await other.close()
    await sandbox.forget("thread")
    assert await sandbox.folder("thread").list() == []
    assert len(await sandbox.folder("other").list()) == 1


@pytest.mark.parametrize("thread", ["thread_abc", "a/../b", "ä" * 300, "..", "", "."])
async def test_names_of_threads(make: Callable[..., Sandbox], root: Path, thread: str) -> None:
    sandbox = make()
    folder = sandbox.folder(thread)
    assert folder.path.resolve().is_relative_to(root)
    assert folder.path != sandbox.folder("another").path
    await folder.put("file", b"content")
    await sandbox.forget(thread)
    assert await sandbox.folder(thread).list() == []


async def test_large_and_many_files(make: Callable[..., Sandbox]) -> None:
    sandbox = make(disk=8 * MIB)
    folder = sandbox.folder("thread")
    content = secrets.token_bytes(3 * MIB + 17)
    await folder.put("large", content)
    with pytest.raises(FileTooLarge):
        await folder.put("larger", bytes(9 * MIB))
    session = await sandbox.open("thread")
    try:
        code = """
import shutil
shutil.copy("large", "copy")
for i in range(50): open(f"file {i}", "w").write(str(i))
"""
        assert (await call(session, code)).text == ""
        assert len(await folder.list()) == 52
        assert b"".join([chunk async for chunk in folder.get("copy")]) == content
        with pytest.raises(FileRefused):
            await anext(folder.get("../thread/large"))
    finally:
        await session.close()


async def test_a_file_has_another_name(make: Callable[..., Sandbox]) -> None:
    sandbox = make()
    folder = sandbox.folder("thread")
    await folder.put("a.txt", b"first")
    await folder.link("file-1", "a.txt")
    session = await sandbox.open("thread")
    try:
        assert (await call(session, "open('/mnt/data/file-1').read()")).text == "'first'\n"
        await call(session, "open('/mnt/data/file-1', 'w').write('second')")
        assert [entry.path for entry in await folder.list()] == ["a.txt"]
        assert b"".join([piece async for piece in folder.get("a.txt")]) == b"second"
        await folder.put("b.txt", b"third")
        await folder.link("file-1", "b.txt")
        assert await folder.links() == {"file-1": "b.txt"}
        assert (await call(session, "open('/mnt/data/file-1').read()")).text == "'third'\n"
    finally:
        await session.close()


async def test_texts_that_come_together_are_one(make: Callable[..., Sandbox]) -> None:
    session = await make().open("thread")
    try:
        code = "import os\nfor i in range(20_000): os.write(1, b'a\\n')\n1 / 0"
        outcome = await call(session, code)
        assert outcome.text == 20_000 * "a\n" + "ZeroDivisionError: division by zero\n"
        assert len(outcome.events) < 1_000
    finally:
        await session.close()


async def test_a_folder_over_its_limits_lets_sessions_start(
    make: Callable[..., Sandbox], engine: str
) -> None:
    sandbox = make(disk=4 * MIB)
    await sandbox.folder("thread").put("input", bytes(MIB))
    session = await sandbox.open("thread")
    # Elsewhere, files are looked at when the call has ended.
    code = f"""
import os
for i in range(100):
    with open(f"f{{i}}", "wb") as file: file.write(os.urandom(1 << 20))
import time
time.sleep({0 if engine == "command" else 30})
"""
    outcome = await call(session, code)
    await session.close()
    assert outcome.end.lost == "its files took more than 4 MiB"
    session = await sandbox.open("thread")
    try:
        outcome = await call(session, "import os\n'input' in os.listdir()")
        assert outcome.text == "True\n"
        assert outcome.end.lost is None
    finally:
        await session.close()
