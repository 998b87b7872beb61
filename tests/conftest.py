"""Fixtures that several test packages use."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest
from hypothesis import settings

from storage import Storage
from storage.database import Database
from tests.support.files.s3 import S3Server
from tests.support.model_server import ModelServer
from tests.support.nats import Nats
from tests.support.postgres import Postgres, migrate, run_async
from tests.support.stack import Stack, serving

WARNINGS = (
    # What these tests are about is deprecated at its origin: that is why this server exists.
    "ignore:The Assistants API is deprecated:DeprecationWarning",
    "ignore:deprecated:DeprecationWarning:tests",
)


# How long an example takes is no test's to judge.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Silences what is known."""
    for warning in WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, one per worker."""
    # Not pytest's own directory: a Unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        server = Postgres(Path(directory))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A NATS server, one per worker."""
    server = Nats(tmp_path_factory.mktemp("nats"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server, one per worker."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The scripted model server, one per worker."""
    server = ModelServer().start()
    yield server
    server.stop()


@pytest.fixture
def models(model_server: ModelServer) -> Iterator[ModelServer]:
    """The scripted model server; a test fails that made it be asked for more than its script."""
    model_server.problems.clear()
    yield model_server
    assert model_server.problems == []


@pytest.fixture(scope="session")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """The real stack on SQLite, one per worker. It must end well, too."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        # A script that fails is to fail at once; tests of retries have servers of their own.
        "ASSISTANTS_MODEL_RETRIES": "0",
        "ASSISTANTS_SANDBOX": "auto",
    }
    with serving(env) as stack:
        yield stack


@pytest.fixture
def client(server: Stack) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the stack."""
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own asynchronous client of the stack."""
    async with openai.AsyncOpenAI(
        base_url=server.base_url, api_key="test", max_retries=0
    ) as client:
        yield client


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'assistants.db'}"
        return
    # Asked for by name, so that tests on SQLite alone start no PostgreSQL.
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create_database("template0")
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database, new for each test."""
    # Asked for by name, so that tests on SQLite alone start no PostgreSQL.
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_file: Path) -> str:
    """The URL of a migrated file."""
    return f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'assistants.db')}"


@pytest.fixture
def postgresql_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a migrated database of PostgreSQL."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to copy."""
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    run_async(migrate(f"sqlite:///{file}"))
    return file


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[Storage]:
    """The repositories on a fresh database, on SQLite and on PostgreSQL."""
    database = Database(database_url)
    yield Storage(database)
    await database.close()
