"""The `assistants` command."""

import sys

import typer
import uvloop

from gateway import stack
from service import logs
from service.settings import Settings, SettingsError

app = typer.Typer(
    help="A self-hosted server for code written against the OpenAI Assistants API (v2).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options() -> None:
    """Settings are environment variables, ASSISTANTS_…: see the README."""


@app.command()
def serve() -> None:
    """Runs the server in the foreground: gRPC, /v1 through Envoy, and the worker."""
    settings = Settings.load()
    logs.configure(settings.log_level)
    uvloop.run(stack.run(settings))


def main() -> None:
    """Runs the command. What the caller can mend is one line and exit code 2."""
    try:
        app(standalone_mode=False)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except SettingsError as error:
        print(f"assistants: {error}", file=sys.stderr)
        sys.exit(2)
