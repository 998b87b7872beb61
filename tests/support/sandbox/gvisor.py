"""Starts a command in gVisor, without Docker: python -m tests.support.sandbox.gvisor COMMAND…

What `docker run -i --rm --runtime=runsc --network=none IMAGE COMMAND…` does with an image that has
this machine's Python and the interpreter's environment. Needs root, and runsc in PATH.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from service.sandbox.engines.native import FILES, SYSTEM
from tests.support.sandbox.places import interpreter

PLATFORM = os.environ.get("TEST_GVISOR_PLATFORM", "ptrace")
"""Debian's runsc is of 2022: its other platform wants KVM."""

LIMITS = {"RLIMIT_NOFILE": 256, "RLIMIT_FSIZE": 512 << 20, "RLIMIT_NPROC": 64}


def main(command: list[str]) -> None:
    """Becomes runsc."""
    bundle = Path(tempfile.mkdtemp(prefix="gvisor-"))
    rootfs = bundle / "rootfs"
    for folder in ("mnt/data", "tmp", "proc", "dev", "etc"):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
    mounts: list[dict[str, object]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/mnt/data", "type": "tmpfs", "source": "tmpfs"},
    ]
    system = [Path(path) for path in (*SYSTEM, *FILES) if os.path.exists(path)]
    own = [path for path in interpreter().folders if not path.is_relative_to("/usr")]
    for path in (*system, *own):
        if path.is_symlink() and path in system:
            (rootfs / path.relative_to("/")).symlink_to(os.readlink(path))
        else:
            source = os.fspath(path)
            options = ["rbind", "ro"]
            mounts.append(
                {"destination": source, "type": "bind", "source": source, "options": options}
            )
    capabilities = ("bounding", "effective", "inheritable", "permitted", "ambient")
    config = {
        "ociVersion": "1.0.0",
        "hostname": "sandbox",
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": command,
            "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in capabilities},
            "rlimits": [{"type": name, "hard": n, "soft": n} for name, n in LIMITS.items()],
        },
        "linux": {"namespaces": [{"type": each} for each in ("pid", "mount", "uts", "ipc")]},
    }
    (bundle / "config.json").write_text(json.dumps(config))
    state, name = os.fspath(bundle / "state"), bundle.name
    options = ["--ignore-cgroups", "--network=none", f"--platform={PLATFORM}"]
    os.execvp(
        "runsc",
        ["runsc", "--root", state, *options, "run", "--bundle", os.fspath(bundle), name],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
