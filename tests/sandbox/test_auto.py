"""Which engine is chosen, and what the start says where none works."""

import os
import sys
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from service.sandbox import environment
from service.sandbox.engines import choose as choosing
from service.sandbox.engines.choose import choose
from service.sandbox.engines.landlock import LandlockSandbox
from service.sandbox.environment import Interpreter
from service.sandbox.limits import Limits
from service.sandbox.port import Sandbox, Unavailable
from service.sandbox.settings import SandboxSettings
from tests.support.sandbox.calls import call
from tests.support.sandbox.places import ENGINES, PYTHON, PlainSandbox, interpreter, maker

PATH = Path(PYTHON) if PYTHON else None

WORKING = "bubblewrap" if "bubblewrap" in ENGINES else "landlock"
"""The engine that is to be chosen where the tests run."""


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """What the start says."""
    capture = LogCapture()
    logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])
    monkeypatch.setattr(choosing, "log", logger)
    return capture


async def refusal(sandbox: Sandbox) -> str:
    """Returns why no session can be opened."""
    with pytest.raises(Unavailable) as raised:
        await sandbox.open("thread")
    return str(raised.value)


async def test_the_safest_engine_that_works_is_chosen(root: Path, logged: LogCapture) -> None:
    sandbox = await choose(SandboxSettings(root, python=PATH))
    assert sandbox.name == WORKING
    assert logged.entries[-1]["event"] == "code interpreter is on"
    assert logged.entries[-1]["engine"] == WORKING
    assert list(root.iterdir()) == []
    session = await sandbox.open("thread")
    assert (await call(session, "1 + 1")).text == "2\n"
    await session.close()


async def test_what_does_not_work_is_said(root: Path, logged: LogCapture) -> None:
    await choose(SandboxSettings(root, python=PATH))
    refused = [entry for entry in logged.entries if "does not work" in entry["event"]]
    assert bool(refused) == (WORKING == "landlock")
    assert all("bwrap: " in entry["reason"] for entry in refused)


async def test_where_nothing_works_the_reasons_are_said(
    root: Path, logged: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = interpreter()

    def none_works(*_: object) -> list[choosing.Candidate]:
        return [
            choosing.Candidate(
                "landlock", lambda: LandlockSandbox(root, found, Limits(), pretend=0)
            )
        ]

    monkeypatch.setattr(choosing, "candidates", none_works)
    sandbox = await choose(SandboxSettings(root, python=PATH))
    assert sandbox.name == "off"
    assert "landlock: the kernel has no Landlock, or it is forbidden here" in await refusal(sandbox)
    assert logged.entries[-1]["event"] == "code interpreter is off"


async def test_an_engine_that_encloses_nothing_is_not_chosen(root: Path) -> None:
    with pytest.raises(Unavailable, match="a file of the server can be read"):
        await choosing.probe(PlainSandbox(root, interpreter(), Limits()), root)


async def test_off(root: Path) -> None:
    sandbox = await choose(SandboxSettings(root, engine="off"))
    assert sandbox.name == "off"
    assert "switched off" in await refusal(sandbox)


async def test_without_an_interpreter(root: Path) -> None:
    sandbox = await choose(SandboxSettings(root, python=root / "python"))
    assert f"there is no interpreter at {root}/python" in await refusal(sandbox)


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo a b >&2\necho c d >&2\nexit 3", "c d"), ("exit 3", "exit code 3"), ("echo x", "")],
)
async def test_what_is_no_python(root: Path, script: str, reason: str) -> None:
    python = root / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    refused = await refusal(await choose(SandboxSettings(root, python=python)))
    assert f"{python} is no working Python: {reason}" in refused
    assert "import" not in refused


async def test_other_systems(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    sandbox = await choose(SandboxSettings(root))
    assert "on darwin, only ASSISTANTS_SANDBOX=command runs code" in await refusal(sandbox)


async def test_a_command_is_needed(root: Path) -> None:
    with pytest.raises(Unavailable, match="ASSISTANTS_SANDBOX_COMMAND"):
        await choose(SandboxSettings(root, engine="command"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nowhere/docker",), "cannot run /nowhere/docker"),
        (("sh", "-c", "echo broken >&2; exit 3"), "broken (exit code 3)"),
        (("sh", "-c", "echo broken"), "first message is bad"),
    ],
)
async def test_a_command_that_fails(root: Path, command: tuple[str, ...], reason: str) -> None:
    sandbox = await choose(SandboxSettings(root, engine="command", command=command))
    assert reason in await refusal(sandbox)


async def test_why_an_interpreter_does_not_start_is_said(engine: str, root: Path) -> None:
    sandbox = maker(engine)(root, Limits(text="none"))  # type: ignore[arg-type]
    assert "TypeError" in await refusal(sandbox)


async def test_an_interpreter_that_only_its_user_can_read(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    found = interpreter()
    hidden = Interpreter(found.python, closed, found.base, None)
    sandbox = LandlockSandbox(root / "threads", hidden, Limits())
    # Sessions are of the server's user, but root's of another. (There is nothing in the folder.)
    assert (f"cannot read {closed}" in await refusal(sandbox)) == (os.getuid() == 0)


async def test_files_that_only_their_user_can_reach(root: Path) -> None:
    root.chmod(0o700)
    sandbox = LandlockSandbox(root / "threads", interpreter(), Limits())
    if os.getuid() == 0:
        assert "cannot reach" in await refusal(sandbox)
    else:
        session = await sandbox.open("thread")
        assert (await call(session, "1 + 1")).text == "2\n"
        await session.close()


def test_reach(root: Path) -> None:
    inner = root / "inner"
    inner.mkdir(mode=0o755)
    assert environment.reachable(inner)
    assert not environment.reachable(root)
    assert environment.reachable(root, environment.PASS)
    root.chmod(0o700)
    assert not environment.reachable(inner)
    assert not environment.reachable(root / "absent")


def test_every_package_is_pinned_with_its_hashes() -> None:
    text = (Path(__file__).parents[2] / environment.LOCK).read_text()
    packages = [line for line in text.splitlines() if "==" in line]
    assert len(packages) > 30
    assert text.count("--hash=sha256:") >= len(packages)
    assert all(line.endswith("\\") for line in packages)


async def test_the_interpreter_has_what_data_work_expects(root: Path) -> None:
    names = "numpy pandas matplotlib scipy sklearn statsmodels seaborn sympy networkx PIL openpyxl "
    names += "xlsxwriter xlrd docx pptx pypdf reportlab lxml bs4 tabulate tqdm"
    sandbox = await choose(SandboxSettings(root, python=PATH))
    session = await sandbox.open("thread")
    code = (
        f"import importlib.util\n[n for n in {names.split()!r} if not importlib.util.find_spec(n)]"
    )
    assert (await call(session, code)).text == "[]\n"
    await session.close()
