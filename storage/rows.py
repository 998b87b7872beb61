"""Plain row objects, generated from the tables.

A row has the table's attributes and nothing else: no session, no tracking of changes. Type checkers
see the SQLModel class itself, whose attributes are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table
from sqlmodel import SQLModel

from storage import tables


def attributes(model: type[SQLModel]) -> dict[str, str]:
    """Returns the attribute of each column, by the column's name, in the order of the table."""
    mapper: Any = model.__mapper__  # type: ignore[attr-defined]
    return {column.name: mapper.get_property_by_column(column).key for column in table(model).c}


def table(model: type[SQLModel]) -> Table:
    """Returns the table of a model."""
    found: Table = model.__table__  # type: ignore[attr-defined]
    return found


def columns(row: type[Any]) -> list[tuple[str, str]]:
    """Returns the columns of a class of rows, each with its attribute, as the class takes them."""
    return _COLUMNS[row.__name__]


_COLUMNS: dict[str, list[tuple[str, str]]] = {}


def values(row: Any) -> dict[str, Any]:
    """Returns what a row has, by its attributes."""
    return {name: getattr(row, name) for _, name in columns(type(row))}


def maker(row: type[Any], names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    """Returns what makes a row of the values of all of its columns, which come in this order."""
    pick = itemgetter(*(names.index(column) for column, _ in columns(row)))
    return lambda values: row(*pick(values))


def _row_class(model: type[SQLModel]) -> Any:
    """Returns a slotted class with the attributes of a table."""
    names = attributes(model)
    optional = {}
    for column in table(model).c:
        given = model.model_fields[names[column.name]]
        if column.nullable or not given.is_required():
            optional[column.name] = field(default=given.get_default(call_default_factory=True))
    # What has a default comes last: then values may be given without their names.
    ordered = sorted(names, key=lambda column: column in optional)
    fields = [(names[column], Any, optional.get(column, field())) for column in ordered]
    made = make_dataclass(model.__name__, fields, slots=True)
    made.__doc__ = model.__doc__
    _COLUMNS[model.__name__] = [(column, names[column]) for column in ordered]
    return made


if TYPE_CHECKING:
    from storage.file_tables import Blob as Blob
    from storage.file_tables import Chunk as Chunk
    from storage.file_tables import ChunkVectors as ChunkVectors
    from storage.file_tables import File as File
    from storage.file_tables import ResourceUse as ResourceUse
    from storage.file_tables import Segment as Segment
    from storage.file_tables import Upload as Upload
    from storage.file_tables import VectorStore as VectorStore
    from storage.file_tables import VectorStoreBatch as VectorStoreBatch
    from storage.file_tables import VectorStoreFile as VectorStoreFile
    from storage.tables import ApiKey as ApiKey
    from storage.tables import Assistant as Assistant
    from storage.tables import Message as Message
    from storage.tables import Project as Project
    from storage.tables import Run as Run
    from storage.tables import RunStep as RunStep
    from storage.tables import Thread as Thread
else:
    ApiKey = _row_class(tables.ApiKey)
    Assistant = _row_class(tables.Assistant)
    Thread = _row_class(tables.Thread)
    Message = _row_class(tables.Message)
    Project = _row_class(tables.Project)
    Run = _row_class(tables.Run)
    RunStep = _row_class(tables.RunStep)
    Blob = _row_class(tables.Blob)
    Chunk = _row_class(tables.Chunk)
    ChunkVectors = _row_class(tables.ChunkVectors)
    File = _row_class(tables.File)
    ResourceUse = _row_class(tables.ResourceUse)
    Segment = _row_class(tables.Segment)
    Upload = _row_class(tables.Upload)
    VectorStore = _row_class(tables.VectorStore)
    VectorStoreBatch = _row_class(tables.VectorStoreBatch)
    VectorStoreFile = _row_class(tables.VectorStoreFile)
