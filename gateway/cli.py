"""The `assistants` command."""

import os
import shlex
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

import grpc
import typer
import uvloop
from rich.console import Console

from gateway import fleet, interpreter, keys, schema
from gateway import serve as start
from gateway.reindex import reindex
from gateway.terminal import channels
from gateway.terminal.bearer import with_key
from gateway.terminal.chat import Chat, details
from service import misspelt
from service.errors import SettingsError
from service.process import logs
from service.settings import Settings
from storage import wall_clock

app = typer.Typer(
    help="A self-hosted server for code written against the OpenAI Assistants API (v2).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(keys.keys, name="keys")
app.add_typer(keys.projects, name="projects")
app.command()(reindex)
app.add_typer(interpreter.interpreter, name="interpreter")

API_KEY = "ASSISTANTS_API_KEY"
ApiKey = Annotated[
    str,
    typer.Option(
        envvar=API_KEY, show_default=False, help="An API key, where the server wants one."
    ),
]


@app.callback()
def _options() -> None:
    """Settings are environment variables, ASSISTANTS_…: see the README."""


Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen for everyone, though there are no keys.")
]


@app.command()
def serve(
    insecure: Insecure = False,
    grpc_only: Annotated[
        bool, typer.Option("--grpc-only", help="Without Envoy: gateways call it, on its gRPC port.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, max=fleet.MOST, help="Servers behind the one Envoy.")
    ] = 1,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Execute no runs and index no files: workers do.")
    ] = False,
) -> None:
    """Runs the server in the foreground: gRPC, /v1 through Envoy, and the worker."""
    command = start.serve_grpc if grpc_only else start.serve
    if processes > 1:
        if grpc_only:
            raise SettingsError("--processes: their gRPC is behind Envoy; not with --grpc-only")
        command = partial(fleet.run, processes=processes)
    _run(partial(command, insecure=insecure, works=not no_worker))


@app.command()
def migrate() -> None:
    """Brings the database's schema up to date, and ends. Servers do so as they start, too."""
    _run(schema.migrate_and_say)


@app.command()
def worker() -> None:
    """Runs a worker in the foreground: it executes runs, and serves no calls."""
    _run(start.work)


@app.command()
def gateway(insecure: Insecure = False) -> None:
    """Runs Envoy in the foreground, before the servers of ASSISTANTS_GRPC_UPSTREAMS."""
    _run(partial(start.serve_gateway, insecure=insecure))


def _run(command: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    settings = Settings.load()
    logs.configure(settings.log_level)
    wall_clock.set_offset(settings.clock_offset)
    misspelt.warn(os.environ)
    uvloop.run(command(settings))


@app.command()
def chat(
    address: Annotated[
        str, typer.Option(help="HOST:PORT of the server's gRPC, or https://HOST:PORT.")
    ] = "",
    assistant: Annotated[str, typer.Option(help="The assistant's id. Else you choose.")] = "",
    thread: Annotated[str, typer.Option(help="The thread to go on with. Else a new one.")] = "",
    model: Annotated[str, typer.Option(help="A new assistant's model. Else you say.")] = "",
    api_key: ApiKey = "",
) -> None:
    """Talks to an assistant in the terminal. Ctrl-C stops an answer, Ctrl-D leaves.

    A server with TLS is one by its settings, or at https://…; SSL_CERT_FILE names other
    authorities than the world's.
    """
    target, channel = channels.opened(address)
    command = [sys.argv[0], "chat", *(("--address", address) if address else ())]
    with channel as plain:
        channel = with_key(plain, api_key)
        try:
            conversation = Chat(channel, Console(), shlex.join(command))
            conversation.hold(assistant or None, thread or None, model or None)
        except grpc.RpcError as error:
            raise SettingsError(f"{target}: {details(error)}") from None


@app.command()
def demo(api_key: ApiKey = "") -> None:
    """Starts a server for itself, with the embedded model, and holds a conversation with it.

    With a key, the server wants it.
    """
    try:
        from gateway.terminal.demo import run_demo  # Only it needs OpenAI's package.
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"demo: the package {error.name} is missing: install assistants[demo,embedded]"
        ) from error
    run_demo(Console(), api_key)


def main() -> None:
    """Runs the command. What the caller can mend is one line and exit code 2.

    What it writes is for the user who runs it alone: databases, sockets, certificates.
    """
    os.umask(0o077)
    _hide_key()
    try:
        app()
    except SettingsError as error:
        print(f"assistants: {error}", file=sys.stderr)
        sys.exit(2)


def _hide_key() -> None:
    """Moves a key to the environment: everybody on a machine can read the command lines."""
    given = sys.orig_argv
    for place, argument in enumerate(given):
        name, equals, key = argument.partition("=")
        if name == "--api-key" and (equals or place + 1 < len(given)):
            behind = place + (1 if equals else 2)
            key = key if equals else given[place + 1]
            rest = [*given[:place], *given[behind:]]
            os.execve(sys.executable, rest, os.environ | {API_KEY: key})


if __name__ == "__main__":
    main()
