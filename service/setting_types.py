"""What values of settings may be: each type reads the text of a variable, or says what is wrong."""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from service.models.dialect import Quirk
from storage.database import parse_url

MIN_KEY = 20
"""Characters that a key has that people choose."""

MAX_PORT = 65535

MAX_SECONDS = 365 * 86400
"""As long as a limit of the edge may be: Envoy takes no endless one."""


def _address(value: str) -> str:
    found = _PLACE.fullmatch(value)
    if found is None or int(found["port"]) > MAX_PORT or not _is_host(found["host"]):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return value


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _database_url(value: str) -> str:
    parse_url(value)
    return value


def _blobs_url(value: str) -> str:
    if not re.fullmatch(r"s3://[^/\s]+(/\S*)?", value):
        raise ValueError("expected s3://BUCKET or s3://BUCKET/PREFIX")
    return value


def _nats_url(value: str) -> str:
    for url in value.split(","):
        # Never shown: a part of a password could be taken for a host, or for a port.
        if not _NATS_URL.fullmatch(url.strip()):
            raise ValueError("expected nats://HOST:PORT or tls://HOST:PORT, several with commas")
    return value


def _chosen_secret(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if len(key) < MIN_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"expected at least {MIN_KEY} ASCII characters without spaces")
    return value


def _model_key(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isprintable():
        raise ValueError("expected no control characters, such as the end of a line")
    return value


def _origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = _split(value)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"'{origin}' is no origin such as https://example.com")
    return origins


def _quirks(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = _split(value)
    known = ", ".join(sorted(Quirk))
    for name in names:
        if name not in set(Quirk):
            raise ValueError(f"'{name}' is unknown; there are {known}")
    return frozenset(map(Quirk, names))


def _command(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"no command with arguments: {error}") from None


_NATS_URL = re.compile(
    r"(nats|tls)://([^\s/?#@:]+(:[^\s/?#@:]+)?@)?([^\s/?#@:\[\]]+|\[[0-9a-f:.]+\])(:\d+)?"
)
_PLACE = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+):(?P<port>\d{1,5})", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,?#@]+")


def _listed(value: object) -> object:
    return _split(value) if isinstance(value, str) else value


def _split(value: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in value.split(",") if each.strip())


Address = Annotated[str, AfterValidator(_address)]
"""HOST:PORT."""

Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_listed)]
"""Several of them, separated by commas."""

BlobsUrl = Annotated[str, AfterValidator(_blobs_url)]
"""A bucket of S3, with or without a prefix."""

ChosenSecret = Annotated[SecretStr, AfterValidator(_chosen_secret)]
"""A key or another secret that people choose."""

ModelKey = Annotated[SecretStr, AfterValidator(_model_key)]

Seconds = Annotated[float, Field(ge=0.001, le=MAX_SECONDS)]

Command = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_command)]
"""A command with its arguments, quoted as in a shell."""

DatabaseUrl = Annotated[str, AfterValidator(_database_url)]

NatsUrl = Annotated[str, AfterValidator(_nats_url)]

Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]

Quirks = Annotated[frozenset[Quirk], NoDecode, BeforeValidator(_quirks)]
