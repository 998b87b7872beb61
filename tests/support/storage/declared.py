"""The statements that storage can execute, by their names."""

import importlib
import pkgutil
from collections.abc import Iterator
from itertools import product
from typing import Any

import storage as package
from storage.pages import List
from storage.statements import Statement
from storage.transitions import Transition

Named = dict[str, Statement[Any]]


def declared() -> Named:
    """Returns the statements that modules of storage hold, those of pages in every shape.

    What is built when it is needed is among them once it was.
    """
    found: Named = {}
    seen: set[int] = set()
    for module in pkgutil.iter_modules(package.__path__):
        for name, value in vars(importlib.import_module(f"storage.{module.name}")).items():
            for each, statement in _statements(name, value):
                # Imported from one module into others, it is one all the same.
                if id(statement) in seen:
                    continue
                seen.add(id(statement))
                full = f"{module.name}.{each}"
                while full in found:
                    full += "'"
                found[full] = statement
    return found


def is_built(name: str) -> bool:
    """Whether a statement is built when it is needed, in whatever shape."""
    return ".page(" in name or name.endswith(".position") or "._" in name


def _label(key: Any) -> str:
    match key:
        case (Transition(target=target), *_, names):
            return f"{target}: {', '.join(names)}"
        case (str(row), names, in_project):
            return f"{row}{' of all' * (not in_project)}: {', '.join(names)}"
        case _:
            return str(key)


def _statements(name: str, value: Any) -> Iterator[tuple[str, Statement[Any]]]:
    match value:
        case Statement():
            yield name, value
        case dict():
            for key, each in value.items():
                yield from _statements(f"{name}[{_label(key)}]", each)
        case List():
            yield f"{name}.position", value._position
            for order, after, before in product(("asc", "desc"), (False, True), (False, True)):
                shape = order == "desc", before and not after, after, before
                yield f"{name}.page{shape}", (page := value._statement(*shape))
                yield f"{name}.page{shape}.apart", page.apart
