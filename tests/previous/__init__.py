"""The previous release, as far as the schema knows it: its tables, and storage upon them.

`storage/` has the tables' modules as they were at version `VERSION` of the schema, the oldest that
still may run (`storage.schema.OLDEST`), and what stands in for modules that need newer columns. Its
files take the places of those of the same names, so that every statement is built of the columns
that the previous release knows. When OLDEST is raised, to the version N of a release at REVISION:
`git show REVISION:storage/NAME.py` for columns, tables and file_tables, VERSION = N, and no other
module for as long as none is needed.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import sqlmodel
from sqlalchemy.orm import registry

VERSION = 10

MODULES = {f"storage.{file.stem}": file for file in Path(__file__).parent.glob("storage/*.py")}

SHARED = "storage.errors"
"""What both raise is of the same classes, for those who expect it."""


class Finder(MetaPathFinder):
    """Finds the modules of the previous release, ahead of today's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns where a module is, if it is one of them."""
        return spec_from_file_location(fullname, MODULES[fullname]) if fullname in MODULES else None


class Base(sqlmodel.SQLModel, registry=registry()):
    """What tables derive from that are no tables of today's metadata."""


@cache
def load() -> dict[str, ModuleType]:
    """Returns storage as the previous release has it, beside today's, and what tests do to it.

    By the modules' names.
    """
    import_module(SHARED)
    todays = _take_out()
    sys.modules[SHARED] = todays[SHARED]
    finder, own = Finder(), sqlmodel.SQLModel
    sys.meta_path.insert(0, finder)
    sqlmodel.SQLModel = Base  # type: ignore[misc, assignment]
    try:
        import_module("tests.support.storage.everything")
        return _take_out()
    finally:
        sqlmodel.SQLModel = own  # type: ignore[misc]
        sys.meta_path.remove(finder)
        _take_out()
        sys.modules.update(todays)


def _take_out() -> dict[str, ModuleType]:
    """Forgets all modules of storage and of tests; returns them."""
    names = [name for name in sys.modules if name.split(".")[0] in ("storage", "tests")]
    return {name: sys.modules.pop(name) for name in names}
