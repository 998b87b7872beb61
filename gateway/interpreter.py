"""`assistants interpreter`: the packages with which the model's Python works."""

from pathlib import Path
from typing import Annotated

import typer

from service.errors import SettingsError
from service.sandbox import environment

interpreter = typer.Typer(
    help="Installs what the code interpreter runs code with.", no_args_is_help=True
)


@interpreter.callback()
def _options() -> None:
    """Installs what the code interpreter runs code with."""


@interpreter.command()
def install(
    target: Annotated[
        Path | None,
        typer.Option(help="A folder for the environment. Else beside the server's packages."),
    ] = None,
) -> None:
    """Installs pinned packages into an environment that the server itself imports nothing from.

    What is there is kept, and brought to the pinned versions. Servers use it from their next start.
    """
    try:
        python = environment.install(None if target is None else target.absolute())
    except (environment.InstallFailed, OSError) as error:
        raise SettingsError(f"interpreter: {error}") from error
    print(f"The interpreter is {python}")
    if python != environment.default_python():
        print(f"  ASSISTANTS_INTERPRETER_PYTHON={python} assistants serve")
