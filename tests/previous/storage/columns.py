"""Types of columns, and short ways to declare them."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

POSITION = String(26).with_variant(String(26, collation="C"), "postgresql")
# JSON keeps the order of keys on both databases, which JSON Schemas need; JSONB would not.
DOCUMENT = JSON(none_as_null=True)
METADATA = JSON().with_variant(JSONB(), "postgresql")


def document() -> Any:
    """A JSON value."""
    return Field(sa_column=Column(DOCUMENT, nullable=False))


def optional_document() -> Any:
    """A JSON value, or null."""
    return Field(default=None, sa_column=Column(DOCUMENT))


def metadata(name: str = "metadata") -> Any:
    """A JSON object that is looked into: the order of its keys is not kept."""
    return Field(sa_column=Column(name, METADATA, nullable=False))


def text() -> Any:
    """A text of any length, or null."""
    return Field(default=None, sa_column=Column(Text))


def seconds(nullable: bool = True) -> Any:
    """A time in unix seconds."""
    if nullable:
        return Field(default=None, sa_column=Column(BigInteger))
    return Field(sa_column=Column(BigInteger, nullable=False))


def position() -> Any:
    """The key that orders rows in a list."""
    return Field(sa_column=Column(POSITION, nullable=False))


def parent(key: str) -> Any:
    """The id of the row that this one belongs to, and goes with."""
    return Field(sa_column=Column(String, ForeignKey(key, ondelete="CASCADE"), nullable=False))
