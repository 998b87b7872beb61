import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tests.edge
from gateway import descriptor, envoy, tls
from service.api.services import SERVICES
from service.errors import SettingsError
from service.listening import Part
from service.process.certificates import Certificate
from service.setting_types import MAX_SECONDS
from service.settings import Settings


def settings(data_dir: Path, http: str = "127.0.0.1:1", grpc: str = "[::1]:2") -> Settings:
    return Settings(data_dir=data_dir, http_address=http, grpc_address=grpc)


def test_envoy_accepts_what_is_written(tmp_path: Path) -> None:
    path = envoy.write(settings(tmp_path))
    check = [*envoy.command(path), "--mode", "validate"]
    done = subprocess.run(check, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_envoy_accepts_every_setting(tmp_path: Path) -> None:
    pair = Path(tests.edge.__path__[0]) / "certificates" / "first.pem"
    given = Settings(
        data_dir=tmp_path,
        http_address="127.0.0.1:1",
        tls_cert=pair,
        tls_key=pair,
        cors_origins=("https://a.example", "*"),
        headers_timeout=0.25,
        request_timeout=MAX_SECONDS,
        idle_timeout=MAX_SECONDS - 0.5,
        max_streams=7,
        max_connections=8,
    )
    tls.SERVER.write(given, Certificate(pair, pair).pair)
    check = [*envoy.command(envoy.write(given)), "--mode", "validate"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # It holds the key.
    assert tls.SERVER.path(given).stat().st_mode & 0o077 == 0


def test_addresses_and_paths_are_those_of_the_settings(tmp_path: Path) -> None:
    path = envoy.write(settings(tmp_path, http="localhost:8081"))
    text = path.read_text()
    config = json.loads(text)["static_resources"]
    address = config["listeners"][0]["address"]["socket_address"]
    assert (address["address"] in {"127.0.0.1", "::1"}, address["port_value"]) == (True, 8081)
    assert {str(tmp_path / name) in text for name in ("edge.sock", "grpc.sock")} == {True}
    assert (tmp_path / "rest.binpb").is_file()


def test_the_transcoder_knows_the_declared_services(tmp_path: Path) -> None:
    config = envoy.configuration(settings(tmp_path))["static_resources"]
    manager = config["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    configs = [entry["typed_config"] for entry in manager["http_filters"]]
    [services] = [each["services"] for each in configs if "services" in each]
    names = [name.replace(descriptor.PACKAGE, descriptor.REST_PACKAGE, 1) for name in SERVICES]
    assert services == names


def test_a_host_without_an_address_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no address for the host host\.invalid"):
        envoy.configuration(settings(tmp_path, http="host.invalid:80"))


@pytest.mark.parametrize("secured", [False, True])
def test_envoy_accepts_many_servers(tmp_path: Path, secured: bool) -> None:
    """Those of its own machine, and those of others, by names and addresses."""
    certificates = Path(tests.edge.__path__[0]) / "certificates"
    pair, authority = certificates / "first.pem", certificates / "authority.pem"
    edge = {"tls_cert": pair, "tls_key": pair, "tls_client_ca": authority} if secured else {}
    upstreams = {
        "grpc_upstreams_ca": authority,
        "grpc_upstreams_cert": pair,
        "grpc_upstreams_key": pair,
    }
    own = settings(tmp_path / "own").model_copy(update=edge)
    remote = settings(tmp_path / "remote").model_copy(
        update={"grpc_upstreams": ("servers.example:50051", "[::1]:7")}
        | edge
        | (upstreams if secured else {})
    )
    parts = [Part(sockets=tmp_path / str(number)) for number in range(3)]
    for given, behind in ((own, parts), (remote, ())):
        given.data_dir.mkdir()
        if secured:
            tls.SERVER.write(given, Certificate(pair, pair).pair)
            tls.UPSTREAMS.write(given, Certificate(pair, pair).pair)
        check = [*envoy.command(envoy.write(given, behind, admin=True)), "--mode", "validate"]
        done = subprocess.run(check, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_is_retried(tmp_path: Path) -> None:
    """One route for what only reads, before one for the rest: of REST by its verb, of gRPC by name.

    Every method of the API has one.
    """
    config = envoy.configuration(settings(tmp_path), [Part(sockets=tmp_path)] * 2)
    [http, grpc] = config["static_resources"]["listeners"]
    policies = {
        route["name"]: route["route"].get("retry_policy", {}).get("retry_on")
        for route in routes(http)
    }
    safe = "connect-failure,refused-stream"
    assert policies == {
        "grpc-reads": f"{safe},reset",
        "grpc": safe,
        "grpc-web": safe,
        "uploads": None,
        "downloads": f"{safe},reset",
        "bodies": safe,
        "rest-reads": f"{safe},reset",
        "rest": safe,
    }
    assert [route["name"] for route in routes(grpc)] == ["grpc-reads", "grpc"]
    pattern = routes(grpc)[0]["match"]["safe_regex"]["regex"]
    for method in descriptor.methods():
        path = f"/{method.service}/{method.name}"
        reads = (
            method.name.startswith(("Get", "List", "Download")) or method.name == "StreamRunEvents"
        )
        assert (re.fullmatch(pattern, path) is not None) == reads


def routes(listener: Any) -> list[Any]:
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    [host] = manager["route_config"]["virtual_hosts"]
    return list(host["routes"])
