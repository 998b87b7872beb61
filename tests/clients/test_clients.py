"""Every release of every client can do everything: one test for each of a driver's checks."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.clients.clients import CLIENTS, Client
from tests.model_server import ModelServer
from tests.script import Answer, Hold
from tests.stack import Stack

PER_CLIENT = [
    pytest.param(client, id=client.name, marks=pytest.mark.xdist_group(client.name))
    for client in CLIENTS
]
PER_CHECK = [
    pytest.param(
        client, name, id=f"{client.name} {name}", marks=pytest.mark.xdist_group(client.name)
    )
    for client in CLIENTS
    for name in client.names
]


@dataclass(frozen=True)
class Outcome:
    """What a driver has said: the error of each `MODE CHECK`, None where all went well."""

    errors: dict[str, str | None]
    stderr: str
    exit_code: int


Drive = Callable[[Client], Outcome]


@pytest.fixture(scope="session")
def drive(server: Stack, model_server: ModelServer) -> Drive:
    """Drives the stack with a client: once, however often it is asked."""

    def drive(client: Client) -> Outcome:
        models = {
            f"{mode} {check}": model_server.script(*steps())
            for mode in client.modes
            for check, steps in client.checks.items()
        }
        process = client.start({"base_url": server.base_url, "models": models})
        stdout, stderr = process.communicate()
        said = [json.loads(line) for line in stdout.splitlines()]
        errors = {f"{line['mode']} {line['check']}": line["error"] for line in said}
        return Outcome(errors, stderr, process.returncode)

    return functools.cache(drive)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("client", PER_CLIENT)
def test_the_driver_does_all_its_checks(drive: Drive, client: Client) -> None:
    outcome = drive(client)
    assert (outcome.stderr, outcome.exit_code) == ("", 0)
    assert sorted(outcome.errors) == sorted(client.names)


@pytest.mark.parametrize(("client", "name"), PER_CHECK)
def test_the_client_can(drive: Drive, client: Client, name: str) -> None:
    error = drive(client).errors.get(name, "The driver did not get there.")
    if error is not None:
        pytest.fail(error, pytrace=False)


def test_the_clients_notice_that_the_server_ends(model_server: ModelServer) -> None:
    env = {"ASSISTANTS_MODEL_BASE_URL": model_server.base_url, "ASSISTANTS_SHUTDOWN_GRACE": "0"}
    with Stack(env) as stack:
        stack.start()
        model = model_server.script(*(Hold(Answer("Hello"), after="Hell") for _ in CLIENTS))
        drivers = {
            client.name: client.start({"base_url": stack.base_url, "held": model})
            for client in CLIENTS
        }
        for driver in drivers.values():
            assert driver.stdout is not None
            driver.stdout.readline()
        assert stack.terminate() == 0
    ends = {name: driver.communicate() for name, driver in drivers.items()}
    error = "APIError The server is shutting down.\n"
    assert ends == {client.name: (error, "") for client in CLIENTS}
