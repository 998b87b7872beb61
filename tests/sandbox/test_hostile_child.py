"""What comes out of the child is believed by nobody: frames, file names, kinds of files."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.sandbox import frames
from service.sandbox.folder import FileRefused
from service.sandbox.frames import Answer, BadFrame, Done, Ready
from service.sandbox.limits import MIB
from service.sandbox.port import Error, Image, Sandbox, Text
from tests.support.sandbox.calls import call
from tests.support.sandbox.places import Open

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()

WRITE = """
import os
data = {data}
for number in range(3, 64):
    try:
        if os.readlink(f"/proc/self/fd/{{number}}").startswith("pipe"): pass
    except OSError: pass
    try:
        while data: data = data[os.write(number, data):]
    except OSError: pass
import time
time.sleep(30)
"""


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "ready"}, Ready()),
        ({"type": "text", "text": "a\0b"}, Text("a\ufffdb")),
        (
            {"type": "error", "name": "E", "value": "", "traceback": "t"},
            Error("E", "", "t"),
        ),
        (
            {"type": "image", "mime": "image/png", "data": PNG},
            Image("image/png", base64.b64decode(PNG)),
        ),
        ({"type": "end", "id": 1}, Done(1)),
        ({"type": "answer", "id": 1, "value": [{}]}, Answer(1, [{}])),
    ],
)
def test_good_frames(frame: object, expected: object) -> None:
    assert frames.parse(json.dumps(frame).encode()) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"type": {}}',
        b'{"type": "nonsense"}',
        b'{"type": "text"}',
        b'{"type": "text", "text": 1}',
        b'{"type": "text", "text": "\xff"}',
        b'{"type": "text", "text": "\\ud800"}',
        b'{"type": "text", "text": "", "more": 1}',
        b'{"type": "end", "id": true}',
        b'{"type": "end", "id": 1.0}',
        b'{"type": "end", "id": 1e999}',
        b'{"type": "image", "mime": "image/png", "data": "@@"}',
        b'{"type": "image", "mime": "image/png", "data": "aGFsbG8="}',
        b'{"type": "image", "mime": "image/svg+xml", "data": "%s"}' % PNG.encode(),
        b'{"type": "image", "mime": "image/jpeg", "data": "%s"}' % PNG.encode(),
        b'{"type": "image", "mime": "image/png", "data": "\xc3\xa4"}',
        b'{"type": "error", "name": "E", "value": null, "traceback": ""}',
    ],
)
def test_bad_frames(line: bytes) -> None:
    with pytest.raises(BadFrame):
        frames.parse(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.binary()
    | st.dictionaries(
        st.sampled_from(["type", "text", "id", "mime", "data", "name", "value", "traceback"]),
        JSON | st.sampled_from([*frames.FIELDS, "image/png", PNG]),
    ).map(lambda frame: json.dumps(frame).encode())
)
def test_whatever_comes_is_a_frame_or_a_bad_one(line: bytes) -> None:
    try:
        frame = frames.parse(line)
    except BadFrame:
        return
    if isinstance(frame, Text):
        frame.text.encode()
        assert "\0" not in frame.text


@pytest.mark.parametrize(
    "data",
    [
        "b'x' * (3 << 20)",
        "b'nonsense\\n'",
        """b'{"type": "ready"}\\n'""",
        """b'{"type": "answer", "id": 1, "value": 1}\\n'""",
        """b'{"type": "end", "id": 7}\\n'""",
    ],
    ids=["too long", "no frame", "ready", "answer", "another end"],
)
async def test_forged_frames_end_the_session(opened: Open, data: str) -> None:
    session = await opened(seconds=20, frame=2 * MIB)
    outcome = await call(session, WRITE.format(data=data))
    assert outcome.end.lost is not None
    assert "message" in outcome.end.lost


async def test_a_forged_end_reaches_nobody_else(opened: Open) -> None:
    session = await opened(seconds=20)
    outcome = await call(session, WRITE.format(data=r"""b'{"type": "end", "id": 1}\n' * 3"""))
    assert outcome.text == ""
    other = await opened("other")
    assert (await call(other, "1")).text == "1\n"


async def test_descriptors_that_are_closed(opened: Open) -> None:
    session = await opened(seconds=1, grace=1)
    outcome = await call(session, "import os\nos.closerange(3, 64)\nwhile True: pass")
    assert outcome.end.lost is not None


STRANGE = r"""
import os
os.symlink("/etc/shadow", "link")
os.symlink(".", "loop")
os.symlink("nowhere", "dangling")
open("two", "w").write("names")
try: os.link("two", "names")
except OSError as error: print(error)
try: os.mkfifo("fifo")
except OSError as error: print(error)
for name in (b"\xff\xfe", b"new\nline", b"\x1b[31m", b" ", b"-rf", "ä€😀".encode(), b"a" * 255,
             b".hidden", b".put-1", "\u202egnp.exe".encode()):
    open(name, "w").write("plain")
os.makedirs("deep/er")
open("deep/er/file", "w").write("plain")
os.symlink("deep", "through")
"""


async def test_strange_files(make: Callable[..., Sandbox], engine: str) -> None:
    sandbox = make()
    session = await sandbox.open("thread")
    try:
        outcome = await call(session, STRANGE)
        assert outcome.end.lost is None
        folder = sandbox.folder("thread")
        listed = [entry.path for entry in await folder.list()]
        expected = {" ", "-rf", ".hidden", "a" * 255, "deep/er/file", "ä€😀"}
        assert expected <= set(listed) <= expected | {"two", "names"}
        refused = ["link", "loop/two", "dangling", "fifo", "through/er/file", "deep", "", ".", "a/"]
        refused += ["/etc/passwd", "../data/two", "deep/../two", "new\nline", "nul\0", "\udcff"]
        for path in refused:
            with pytest.raises(FileRefused):
                await anext(folder.get(path))
        # A command's links stay where it runs.
        linked = () if engine == "command" else ("through/er/new", "link/new")
        for path in (*linked, "../new", "two/new"):
            with pytest.raises(FileRefused):
                await folder.put(path, b"")
        for path in ("link", "fifo", "two", "dangling"):
            await folder.put(path, b"replaced")
            assert b"".join([chunk async for chunk in folder.get(path)]) == b"replaced"
        outcome = await call(session, "open('link').read(), open('dangling').read()")
        assert outcome.text == "('replaced', 'replaced')\n"
    finally:
        await session.close()


async def test_a_folder_in_place_of_a_file(make: Callable[..., Sandbox]) -> None:
    sandbox = make()
    folder = sandbox.folder("thread")
    session = await sandbox.open("thread")
    try:
        code = """
import os
os.makedirs("input/a/b")
open("input/a/f", "w").close()
os.chmod("input/a", 0)
"""
        await call(session, code)
        await folder.put("input", b"content")
        assert (await call(session, "open('input').read()")).text == "'content'\n"
    finally:
        await session.close()


async def test_deep_folders_can_be_removed(make: Callable[..., Sandbox], root: Path) -> None:
    sandbox = make()
    session = await sandbox.open("thread")
    code = """
import os
for i in range(3000):
    os.mkdir("d")
    if i % 100 == 0: os.symlink("/", "d/link")
    os.chdir("d")
"""
    await call(session, code)
    await session.close()
    await sandbox.forget("thread")
    assert "thread" not in os.listdir(root)
    assert os.path.exists("/etc")


LEFT = r"""
import os
home = os.environ["HOME"]
for name in ("sitecustomize", "usercustomize", "IPython", "ipython_config", "traitlets", "readline",
             "encodings", "matplotlib_inline", "backend"):
    for folder in ("/mnt/data", home):
        with open(f"{folder}/{name}.py", "w") as file:
            file.write(f"open('/mnt/data/ran-{name}', 'w')")
for folder in ("/mnt/data", home):
    for name in (".ipython/profile_default/startup", ".config/ipython", ".config/matplotlib"):
        os.makedirs(f"{folder}/{name}", exist_ok=True)
    for name in (".ipython/profile_default/startup/0.py", ".pythonrc.py", "x.pth",
                 ".ipython/profile_default/ipython_config.py"):
        with open(f"{folder}/{name}", "w") as file:
            file.write("import os; open('/mnt/data/ran-config', 'w')")
    for name in ("matplotlibrc", ".config/matplotlib/matplotlibrc"):
        with open(f"{folder}/{name}", "w") as file:
            file.write("backend: module://backend")
"""

DRAWN = r"""
import glob
import matplotlib.pyplot as plt
_ = plt.plot([1, 2])
plt.show()
print(glob.glob("/mnt/data/ran-*"))
"""


async def test_what_a_session_leaves_runs_nothing_in_the_next(make: Callable[..., Sandbox]) -> None:
    sandbox = make()
    first = await sandbox.open("thread")
    assert (await call(first, LEFT)).text == ""
    await first.close()
    second = await sandbox.open("thread")
    outcome = await call(second, DRAWN)
    assert outcome.text == "[]\n"
    assert len(outcome.images) == 1
    await second.close()
