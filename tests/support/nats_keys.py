"""Keys and JWTs of NATS: an operator, an account with JetStream, and a user's credentials."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

UNLIMITED = dict.fromkeys(
    [
        "subs",
        "data",
        "payload",
        "imports",
        "exports",
        "conn",
        "leaf",
        "mem_storage",
        "disk_storage",
        "streams",
        "consumer",
    ],
    -1,
)


def new_pair(kind: int) -> nkeys.KeyPair:
    """Makes a pair of keys of this kind."""
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def name(pair: nkeys.KeyPair) -> str:
    """The public key."""
    return str(pair.public_key.decode())


def jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, **claims: Any) -> str:
    """Signs claims about a subject."""
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = {
        "jti": name(subject),
        "iat": int(time.time()),
        "iss": name(issuer),
        "sub": name(subject),
        "name": "test",
        "nats": claims | {"version": 2},
    }
    signed = b".".join(encoded(json.dumps(part).encode()) for part in (head, body))
    return (signed + b"." + encoded(issuer.sign(signed))).decode()


def encoded(data: bytes) -> bytes:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def make(directory: Path) -> tuple[Path, Path]:
    """Writes a server's configuration and a user's credentials; returns their files."""
    operator = new_pair(nkeys.PREFIX_BYTE_OPERATOR)
    account, system = (new_pair(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))
    user = new_pair(nkeys.PREFIX_BYTE_USER)
    limits = UNLIMITED | {"wildcards": True}
    of_account = jwt(operator, account, type="account", limits=limits)
    of_system = jwt(operator, system, type="account")
    config, credentials = directory / "nats.conf", directory / "user.creds"
    config.write_text(
        f"operator: {jwt(operator, operator, type='operator')}\n"
        "resolver: MEMORY\n"
        f"system_account: {name(system)}\n"
        f"resolver_preload: {{ {name(account)}: {of_account}, {name(system)}: {of_system} }}\n"
    )
    of_user = jwt(account, user, type="user", subs=-1, data=-1, payload=-1, pub={}, sub={})
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return config, credentials
