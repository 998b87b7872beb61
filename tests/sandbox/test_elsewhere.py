"""The same tests as another user, and as in a container: a boundary must not depend on root."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.sandbox.places import interpreter

REPOSITORY = Path(__file__).parents[2]
NOBODY = "65534"

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can become another user: these tests run as one already"
)

PYTEST = (
    *(sys.executable, "-B", "-m", "pytest", "-n", "0", "-q", "-x"),
    *("-p", "no:cacheprovider", "--confcutdir", "tests/sandbox"),
)

ATTACKS = (
    "test_identity.py",
    "test_attacks.py",
    "test_limits.py",
    "test_hostile_child.py",
    "test_orphans.py",
)


@pytest.mark.parametrize(
    ("restrictions", "engines", "files"),
    [
        (["--user", NOBODY], "bubblewrap landlock", (*ATTACKS, "test_conformance.py")),
        (["--docker"], "landlock", (*ATTACKS, "test_auto.py")),
        (["--docker", "--user", NOBODY], "landlock", (*ATTACKS, "test_auto.py")),
    ],
    ids=["another user", "root in a container", "another user in a container"],
)
def test_everything_again(
    restrictions: list[str], engines: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    found = interpreter()
    shown = [REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), found.prefix, found.base]
    show = [argument for path in shown for argument in ("--show", os.fspath(path))]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([os.fspath(REPOSITORY), sysconfig.get_path("purelib")]),
        "TEST_ENGINES": engines,
        "TEST_INTERPRETER": os.fspath(found.python),
        "TEST_RESTRICTED": str(int("--docker" in restrictions)),
    }
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.sandbox.restricted", *show, *restrictions, "--"),
            *(*PYTEST, *(f"tests/sandbox/{file}" for file in files)),
        ],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-10_000:]
    assert " passed" in result.stdout
