"""Every setting of the server, once: its default, its meaning and its reason.

Each is read from the environment variable `ASSISTANTS_<NAME>`. Those of what a server listens on,
and those of the code interpreter, are in the two modules of their names.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from service.errors import SettingsError
from service.interpreter_settings import InterpreterSettings
from service.listening_settings import ListeningSettings
from service.sandbox.settings import SandboxSettings
from service.setting_types import (
    Address,
    BlobsUrl,
    ChosenSecret,
    DatabaseUrl,
    ModelKey,
    NatsUrl,
    Quirks,
)
from storage.quotas import Quotas

MAX_SOCKET_PATH = 107
"""Bytes that Linux allows in the path of a Unix socket."""

LONGEST_SOCKET = "servers/00/edge.sock"
"""The longest of the paths of sockets in the data directory."""

WhenActive = Literal["reject", "queue"]
FileSearchMode = Literal["auto", "tool", "always"]


class Settings(ListeningSettings, InterpreterSettings):
    """The settings of one server."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANTS_", env_ignore_empty=True)

    auth: Literal["none", "keys"] = "none"
    """Whether calls need an API key. Without, all are of the project `default`."""

    bootstrap_key: ChosenSecret | None = None
    """A key of the project `default`, made when a server starts that does not find it.

    For containers, which are given their secrets. One that was revoked stays so.
    """

    rate_limit: int | None = Field(default=None, ge=1, le=1_000_000)
    """Calls a minute that each key may make of this server; without keys, all callers together.

    More are a 429. Default: any number. Health is no call.
    """

    quota_active_runs: int | None = Field(default=None, ge=1, lt=2**31)
    """Runs of a project that have not ended, at most, those included that wait behind others.

    Servers of one database have the same quotas. Default, of each: any number.
    """

    quota_runs_per_minute: int | None = Field(default=None, ge=1, lt=2**31)
    """Runs that a project may begin in a minute."""

    quota_tokens_per_minute: int | None = Field(default=None, ge=1, lt=2**31)
    """Tokens, of prompts and answers, that a project's runs may take in a minute.

    They are known when the model has answered: more than that keeps new runs out for longer.
    """

    quota_messages: int | None = Field(default=None, ge=1, lt=2**31)
    """Messages of a project that are stored, at most. A new run needs room for one more."""

    blobs_url: BlobsUrl | None = None
    """`s3://BUCKET/PREFIX`: where the bytes of files are kept. Default: in the data directory.

    Region, keys and endpoint are read from AWS_REGION, AWS_ENDPOINT_URL and so on. Servers that
    share a database must share the files, too.
    """

    download_every_purpose: bool = True
    """Whether callers may download files of every purpose.

    Else those for assistants and user_data are a 400, as in OpenAI's API.
    """

    data_dir: Path = Path("data")
    """Where the database, the edge's socket and its configuration are kept. One server holds it."""

    database_url: DatabaseUrl | None = None
    """`postgresql://…` or `sqlite:///…`. Default: a SQLite file in the data directory."""

    database_connections: int = Field(default=10, ge=1, le=1000)
    """Connections to PostgreSQL that the calls of a server share, at most.

    More transactions wait, a minute at most. A server opens three more besides those of its engine:
    two to renew leases, one to see whether the database is there.
    """

    database_engine_connections: int = Field(default=4, ge=1, le=1000)
    """Connections to PostgreSQL that only the run engine uses, at most, besides the others."""

    nats_url: NatsUrl | None = None
    """NATS servers with JetStream, by which several servers on one database are one service.

    `nats://user:password@host:4222` or `tls://…`; those of one cluster are separated by commas.
    Default: none, for a server that is alone.
    """

    nats_credentials: Path | None = None
    """A file with the JWT and the seed of a user of NATS (`.creds`)."""

    nats_ca: Path | None = None
    """A PEM file with authorities of the certificates of `tls://` servers, beside the system's."""

    nats_prefix: str = Field(default="assistants", pattern=r"^[A-Za-z0-9_-]+$")
    """What the names of all streams and subjects begin with: one for each service on a NATS."""

    nats_replicas: int = Field(default=1, ge=1, le=5)
    """How many servers of the NATS cluster keep each stream."""

    nats_events_max_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Bytes of events of all servers that NATS keeps at most; the oldest go first."""

    nats_queue_max_bytes: int = Field(default=64 * 2**20, ge=2**20)
    """Bytes of runs that wait for a worker at most. More wait in memory, or in the database."""

    model_base_url: HttpUrl | None = None
    """An OpenAI-compatible endpoint, up to and with its `/v1`. Default: the embedded model."""

    model_api_key: ModelKey = SecretStr("none")
    """What that endpoint wants as its key. Local servers take any."""

    model_context_tokens: int | None = Field(default=None, ge=256)
    """Tokens that the model takes, a prompt and its answer together.

    Longer threads lose their oldest messages. Default: as the embedded model is made, or as another
    server says when it refuses a request that is longer, which is then asked again.
    """

    model_prompt_bytes: int = Field(default=2**20, ge=2**10)
    """Bytes of a thread's messages that a model is sent at most while its context is not known.

    Its refusal names the context, and most models take less. One that takes more needs the setting
    above, as the messages beyond are left out without a word.
    """

    model_quirks: Quirks = frozenset()
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

    embeddings_base_url: HttpUrl | None = None
    """An OpenAI-compatible server of embeddings, up to and with its `/v1`.

    Default: static vectors of words, which need no server. See docs/file-search.md.
    """

    embeddings_model: str = "text-embedding-3-small"
    """The model that this server is asked for."""

    embeddings_api_key: SecretStr = SecretStr("none")
    """What it wants as its key."""

    indexing_concurrency: int = Field(default=2, ge=1, le=64)
    """Files of vector stores that this server indexes at once. More wait."""

    rewriting_model: str | None = None
    """The model that words queries anew where a search asks for it. Default: they stay."""

    file_search: FileSearchMode = "auto"
    """How runs search in files: `tool`, the model calls a function; `always`, ahead of its answer.

    `auto` is `always` for the embedded model, and for a model whose server refuses functions. Set
    `always` for others that call none.
    """

    file_search_results: int = Field(default=20, ge=1, le=50)
    """Chunks that a model gets of one search at most, unless its run says."""

    file_search_tokens: int = Field(default=16_000, ge=256)
    """Tokens of chunks that a model gets of one search at most; less where its context is small."""

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
    """Seconds that runs in progress get to end on SIGTERM."""

    events_max_bytes: int = Field(default=64 * 2**20, ge=2**20)
    """Bytes of events that are kept for readers who come back; those of quiet runs go first."""

    keep_alive_seconds: float = Field(default=15.0, gt=0)
    """How long a stream of server-sent events may be silent before it gets a comment."""

    metrics_address: Address | None = None
    """Where Prometheus finds /metrics: HOST:PORT. Default: nowhere."""

    access_log: bool = True
    """Whether Envoy writes a line of JSON for each request to the server's stdout."""

    clock_offset: float = 0.0
    """Seconds by which the clock of this process is wrong: for tests. Leases do not go by it."""

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
        if settings.bootstrap_key is not None and settings.auth == "none":
            raise SettingsError("ASSISTANTS_BOOTSTRAP_KEY: there are no keys: ASSISTANTS_AUTH=keys")
        settings.check_listening()
        settings.check_interpreter()
        if settings.request_timeout <= settings.keep_alive_seconds:
            raise SettingsError(
                "ASSISTANTS_REQUEST_TIMEOUT: must be more than ASSISTANTS_KEEP_ALIVE_SECONDS, or "
                "silent streams are cut off"
            )
        socket = settings.data_dir.absolute() / LONGEST_SOCKET
        if len(bytes(socket)) > MAX_SOCKET_PATH:
            raise SettingsError(
                f"ASSISTANTS_DATA_DIR: the socket path {socket} is longer than the "
                f"{MAX_SOCKET_PATH} bytes that Linux allows"
            )
        return settings

    @property
    def quotas(self) -> Quotas:
        """What each project may have at most."""
        return Quotas(
            active_runs=self.quota_active_runs,
            runs_per_minute=self.quota_runs_per_minute,
            tokens_per_minute=self.quota_tokens_per_minute,
            messages=self.quota_messages,
        )

    @property
    def code_interpreter(self) -> SandboxSettings:
        """The settings of the code interpreter, together."""
        return self.interpreter_in(self.data_dir / "threads")

    @property
    def effective_database_url(self) -> str:
        """The database in use."""
        return self.database_url or f"sqlite:///{self.data_dir / 'assistants.db'}"
