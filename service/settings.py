"""Every setting of the server, once: its default, its meaning and its reason.

Each is read from the environment variable `ASSISTANTS_<NAME>`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import SettingsError
from service.models.dialect import Quirk
from storage.database import parse_url

MAX_SOCKET_PATH = 107
"""Bytes that Linux allows in the path of a Unix socket."""


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080")
    return value


def _database_url(value: str) -> str:
    parse_url(value)
    return value


def _quirks(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    known = ", ".join(sorted(Quirk))
    for name in names:
        if name not in set(Quirk):
            raise ValueError(f"'{name}' is unknown; there are {known}")
    return frozenset(map(Quirk, names))


Address = Annotated[str, AfterValidator(_address)]


WhenActive = Literal["reject", "queue"]


class Settings(BaseSettings):
    """The settings of one server."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANTS_", env_ignore_empty=True)

    http_address: Address = "127.0.0.1:8080"
    """Where Envoy serves /v1: HOST:PORT. Loopback, as there are no API keys yet."""

    grpc_address: Address = "127.0.0.1:50051"
    """Where gRPC is served: HOST:PORT."""

    grpc_max_request_bytes: int = Field(default=32 * 2**20, ge=2**16, lt=2**31)
    """Bytes of a request of gRPC at most. A longer one is refused: RESOURCE_EXHAUSTED."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=2**16, le=64 * 2**20)
    """Bytes of a body of REST at most. A longer one is a 413."""

    data_dir: Path = Path("data")
    """Where the database, the edge's socket and its configuration are kept. One server holds it."""

    database_url: Annotated[str, AfterValidator(_database_url)] | None = None
    """`postgresql://…` or `sqlite:///…`. Default: a SQLite file in the data directory."""

    model_base_url: HttpUrl | None = None
    """An OpenAI-compatible endpoint, up to and with its `/v1`. Default: the embedded model."""

    model_api_key: SecretStr = SecretStr("none")
    """What that endpoint wants as its key. Local servers take any."""

    model_context_tokens: int | None = Field(default=None, ge=256)
    """Tokens that the model takes, a prompt and its answer together.

    Longer threads lose their oldest messages. Default: as the embedded model is made, or as another
    server says when it refuses a request that is longer, which is then asked again.
    """

    model_prompt_bytes: int = Field(default=2**20, ge=2**10)
    """Bytes of a thread's messages that a model is sent at most while its context is not known.

    Its refusal tells the context, and most models take less. One that takes more needs the setting
    above, as the messages beyond are left out without a word.
    """

    model_quirks: Annotated[frozenset[Quirk], NoDecode, BeforeValidator(_quirks)] = frozenset()
    """What the model server wants otherwise than in OpenAI's form: names, separated by commas.

    Most of it is found out, from what the server refuses. See docs/models.md.
    """

    model_idle_timeout: float = Field(default=60.0, gt=0)
    """Seconds without a byte of an answer after which the model is taken for dead."""

    model_retries: int = Field(default=4, ge=0, le=20)
    """How often a model is asked again, at growing intervals, after an error that may pass.

    Only as long as nothing of its answer has been streamed, and within the run's lifetime.
    """

    worker_concurrency: int = Field(default=64, ge=1, le=1000)
    """Runs that this server executes at once. More wait in the queue.

    A model server that answers fewer at once must queue the others for less than the idle timeout.
    """

    when_active: WhenActive = "reject"
    """What happens to a run or a message whose thread has an active run, unless the call says.

    `reject`, as OpenAI's API did, or `queue`: the run waits behind the active one.
    """

    run_lifetime: int = Field(default=600, ge=1)
    """Seconds after which a run expires: ten minutes, as in OpenAI's API."""

    lease_seconds: float = Field(default=15.0, ge=1)
    """How long a worker's claim on a run holds unless renewed, which it does three times as often.

    After a crash, a run in progress waits this long at most before it is taken up again.
    """

    shutdown_grace: float = Field(default=10.0, ge=0)
    """Seconds that runs in progress get to end when the server is told to stop."""

    events_max_bytes: int = Field(default=64 * 2**20, ge=2**20)
    """Bytes of events that are kept for readers who come back; those of quiet runs go first."""

    keep_alive_seconds: float = Field(default=15.0, gt=0)
    """How long a stream of server-sent events may be silent before it gets a comment."""

    metrics_address: Address | None = None
    """Where Prometheus finds /metrics: HOST:PORT. Default: nowhere."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least urgent lines to log."""

    @classmethod
    def load(cls) -> Self:
        """Reads the environment. Raises SettingsError."""
        try:
            settings = cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "_".join(["ASSISTANTS", *map(str, first["loc"][:1])]).upper()
            reason = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{name}: {reason}") from None
        socket = settings.edge_socket.absolute()
        if len(bytes(socket)) > MAX_SOCKET_PATH:
            raise SettingsError(
                f"ASSISTANTS_DATA_DIR: the socket path {socket} is longer than the "
                f"{MAX_SOCKET_PATH} bytes that Linux allows"
            )
        return settings

    @property
    def edge_socket(self) -> Path:
        """The Unix socket on which Envoy alone reaches the server."""
        return self.data_dir / "edge.sock"

    @property
    def grpc_socket(self) -> Path:
        """The Unix socket on which Envoy reaches the public gRPC server."""
        return self.data_dir / "grpc.sock"

    @property
    def effective_database_url(self) -> str:
        """The database in use."""
        return self.database_url or f"sqlite:///{self.data_dir / 'assistants.db'}"
