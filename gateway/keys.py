"""`assistants keys` and `assistants projects`: on the database, beside a server or without."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from service.access import digest, new_key
from service.errors import SettingsError
from service.settings import Settings
from storage import wall_clock
from storage.database import Database
from storage.errors import NotFound, Unreachable
from storage.keys import Keys
from storage.rows import ApiKey, Project

T = TypeVar("T")

keys = typer.Typer(help="Makes, lists and revokes API keys.", no_args_is_help=True)
projects = typer.Typer(help="Lists the projects.", no_args_is_help=True)

_UNITS = {"m": 60, "h": 3600, "d": 86400}
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)


@keys.command()
def create(
    project: Annotated[str, typer.Option(help="Its name. A new one is made.")],
    name: Annotated[str, typer.Option(help="What logs call the key.")] = "key",
    expires: Annotated[str, typer.Option(help="How long it is valid: 30m, 12h, 90d.")] = "",
) -> None:
    """Makes a key of a project, and prints it: nobody can read it again."""
    lifetime = _seconds(expires) if expires else None
    for option, value in (("--project", project), ("--name", name)):
        if not _NAME.fullmatch(value):
            raise SettingsError(f"{option}: expected letters, digits and . _ @ -, 64 at most")
    key = new_key()
    made = _on_database(lambda stored: stored.create(project, name, digest(key), lifetime))
    print(key, flush=True)
    print(f"{made.id} of project {project}. It is not shown again.", file=sys.stderr)


@keys.command("list")
def list_keys() -> None:
    """Lists the keys, by what they are called: their texts are not stored."""

    async def read(stored: Keys) -> tuple[list[ApiKey], dict[str, str]]:
        names = {project.id: project.name for project in await stored.projects()}
        return [*await stored.list()], names

    found, names = _on_database(read)
    now = wall_clock.now()
    _print(
        ("ID", "PROJECT", "NAME", "CREATED", "EXPIRES", "STATE"),
        *(
            (
                key.id,
                names[key.project_id],
                key.name,
                _time(key.created_at),
                _time(key.expires_at),
                _state(key, now),
            )
            for key in found
        ),
    )


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Revokes a key: within seconds, no server takes it. Open streams go on to their end."""
    revoked = _on_database(lambda stored: stored.revoke(key_id))
    print(f"{revoked.id} ({revoked.name}) is revoked since {_time(revoked.revoked_at)}.")


@projects.command("list")
def list_projects() -> None:
    """Lists the projects that objects and keys belong to."""

    async def read(stored: Keys) -> list[Project]:
        return [*await stored.projects()]

    _print(
        ("ID", "NAME", "CREATED"),
        *((each.id, each.name, _time(each.created_at)) for each in _on_database(read)),
    )


def _on_database(work: Callable[[Keys], Awaitable[T]]) -> T:
    """Returns what `work` returns. Raises SettingsError where that cannot be had."""
    settings = Settings.load()
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)

    async def execute() -> T:
        database = Database(settings.effective_database_url)
        try:
            await database.migrate()
            return await work(Keys(database))
        finally:
            await database.close()

    try:
        return asyncio.run(execute())
    except Unreachable as error:
        raise SettingsError(f"ASSISTANTS_DATABASE_URL: {error}") from None
    except NotFound as error:
        raise SettingsError(f"there is no {error.kind} '{error.id}': see `keys list`") from None
    except OSError as error:
        raise SettingsError(f"ASSISTANTS_DATA_DIR: {error.strerror}") from None


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text, re.ASCII)
    if found is None:
        raise SettingsError("--expires: expected a number of minutes, hours or days: 30m, 12h, 90d")
    return int(found[1]) * _UNITS[found[2]]


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "valid"


def _print(*lines: tuple[str, ...]) -> None:
    """Prints lines of columns, each as wide as its widest text."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())
