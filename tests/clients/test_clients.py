"""Every release of every client can do everything: one test for each of a driver's checks."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest

from tests.support.clients.drivers import CLIENTS, Client
from tests.support.clients.environments import locked
from tests.support.model_server import ModelServer
from tests.support.stack import Stack
from tests.support.waiting import SECONDS


@dataclass(frozen=True)
class Outcome:
    """What a driver has reported: the error of each `MODE CHECK`, None where all went well."""

    errors: dict[str, str | None]
    stderr: str
    exit_code: int


Drive = Callable[[Client], Outcome]


@pytest.fixture(scope="session")
def drive(
    server: Stack,
    model_server: ModelServer,
    tmp_path_factory: pytest.TempPathFactory,
    testrun_uid: str,
) -> Drive:
    """Drives the stack with a client: once, however often it is asked, and by which process."""
    # The directory above is the same in all of them.
    directory = tmp_path_factory.getbasetemp().parent / f"clients-{testrun_uid}"
    directory.mkdir(exist_ok=True)

    def drive(client: Client) -> Outcome:
        file = directory / client.name
        with locked(file.with_suffix(".lock")):
            if not file.exists():
                outcome = _drive(client, server, model_server)
                file.write_text(json.dumps(asdict(outcome)))
        return Outcome(**json.loads(file.read_text()))

    return drive


def _drive(client: Client, server: Stack, model_server: ModelServer) -> Outcome:
    models = {
        f"{mode} {check}": model_server.script(*steps())
        for mode in client.modes
        for check, steps in client.checks.items()
    }
    process = client.start({"base_url": server.base_url, "models": models})
    try:
        stdout, stderr = process.communicate(timeout=5 * SECONDS)
    finally:
        process.kill()
    reports = [json.loads(line) for line in stdout.splitlines()]
    errors = {f"{line['mode']} {line['check']}": line["error"] for line in reports}
    return Outcome(errors, stderr, process.returncode)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_the_driver_does_all_its_checks(drive: Drive, client: Client) -> None:
    outcome = drive(client)
    assert (outcome.stderr, outcome.exit_code) == ("", 0)
    assert sorted(outcome.errors) == sorted(client.names)


@pytest.mark.parametrize(
    ("client", "name"),
    [
        pytest.param(client, name, id=f"{client.name} {name}")
        for client in CLIENTS
        for name in client.names
    ],
)
def test_the_client_can(drive: Drive, client: Client, name: str) -> None:
    error = drive(client).errors.get(name, "The driver did not get there.")
    if error is not None:
        pytest.fail(error, pytrace=False)
