"""Envoy before many servers: it checks them, spreads calls, and retries those that are safe to.

A call is safe to retry where no server can have begun it: the connection failed, or the server
refused the stream, as one does that drains. One that only reads is safe wherever no answer has
begun.
"""

from collections.abc import Sequence
from copy import deepcopy
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from gateway import tls
from service.access import EDGE_SECRET
from service.calls import READS
from service.listening import Part
from service.settings import Settings

NOT_BEGUN = "connect-failure,refused-stream"
READ_READS = f"{NOT_BEGUN},reset"

RETRIES = {"uploads": None, "downloads": READ_READS}
"""When the calls of a route are retried, where not as others: an upload would have to be kept."""

OUTLIERS: dict[str, Any] = {
    # What a server answers says nothing about it: all answer 503 while the database is away.
    "split_external_local_origin_errors": True,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    "consecutive_local_origin_failure": 3,
    "enforcing_consecutive_local_origin_failure": 100,
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_percent": 50,
}
"""When a server gets no calls for a while: it could not be reached, three times in a row."""

KEEP_ALIVE = {"interval": "10s", "timeout": "10s"}
"""A machine that is gone closes no connection: who answers no ping in time is taken for gone."""


def balance(config: dict[str, Any], settings: Settings, parts: Sequence[Part]) -> None:
    """Has Envoy call the servers of the settings, on TCP, or else these of its own machine."""
    clusters = {each["name"]: each for each in config["static_resources"]["clusters"]}
    for name, cluster in clusters.items():
        if settings.grpc_upstreams:
            _reach(cluster, settings)
        else:
            paths = [str(path.absolute()) for part in parts if (path := part.socket(name))]
            _set_endpoints(cluster, [{"pipe": {"path": path}} for path in paths])
    if settings.grpc_upstreams or len(parts) > 1:
        for cluster in clusters.values():
            cluster["lb_policy"] = "LEAST_REQUEST"
            cluster["outlier_detection"] = OUTLIERS
            cluster["circuit_breakers"]["thresholds"][0]["max_retries"] = 1000
        [listener] = config["static_resources"]["listeners"]
        _retry(manager_of(listener)["route_config"]["virtual_hosts"][0])


def manager_of(listener: dict[str, Any]) -> Any:
    """Returns the configuration of what reads HTTP on a listener."""
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def show_secret(config: dict[str, Any]) -> None:
    """Has Envoy show the edge's secret with REST calls. It is in Envoy's environment alone."""
    [listener] = config["static_resources"]["listeners"]
    for route in manager_of(listener)["route_config"]["virtual_hosts"][0]["routes"]:
        if route["route"]["cluster"] != "grpc":
            value = "%ENVIRONMENT(ASSISTANTS_EDGE_SECRET)%"
            route["request_headers_to_add"] = [{"header": {"key": EDGE_SECRET, "value": value}}]


def _retry(host: dict[str, Any]) -> None:
    routes = []
    for route in host["routes"]:
        if (reads := _only_reads(route)) is not None:
            reads["route"]["retry_policy"] = _policy(READ_READS)
            routes.append(reads)
        route = deepcopy(route)
        if (retry_on := RETRIES.get(route["name"], NOT_BEGUN)) is not None:
            route["route"]["retry_policy"] = _policy(retry_on)
        routes.append(route)
    host["routes"] = routes


def _only_reads(route: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the same route for those of its calls that change nothing, if it can tell."""
    reads = deepcopy(route)
    if route["name"] == "rest":
        get = {"name": ":method", "string_match": {"exact": "GET"}}
        reads["match"]["headers"] = [get]
    elif route["name"] == "grpc":
        del reads["match"]["prefix"]
        regex = rf"/assistants\.v1\.\w+/({'|'.join(READS)})\w*"
        reads["match"]["safe_regex"] = {"regex": regex}
    else:
        return None
    reads["name"] += "-reads"
    return reads


def _policy(retry_on: str) -> dict[str, Any]:
    predicate = "envoy.retry_host_predicates.previous_hosts"
    package = "envoy.extensions.retry.host.previous_hosts.v3"
    kind = f"type.googleapis.com/{package}.PreviousHostsPredicate"
    return {
        "retry_on": retry_on,
        "num_retries": 3,
        "retry_host_predicate": [{"name": predicate, "typed_config": {"@type": kind}}],
        "host_selection_retry_max_attempts": 5,
    }


def _reach(cluster: dict[str, Any], settings: Settings) -> None:
    cluster["type"] = "STRICT_DNS"
    cluster["dns_lookup_family"] = "V4_PREFERRED"
    places = [address.rpartition(":") for address in settings.grpc_upstreams]
    hosts = [host.strip("[]") for host, _, _ in places]
    addresses = [
        {"socket_address": {"address": host, "port_value": int(port)}}
        for host, (_, _, port) in zip(hosts, places, strict=True)
    ]
    _set_endpoints(cluster, addresses)
    cluster["typed_extension_protocol_options"] = deepcopy(
        cluster["typed_extension_protocol_options"]
    )
    [options] = cluster["typed_extension_protocol_options"].values()
    options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"] = KEEP_ALIVE
    if settings.grpc_upstreams_ca is not None:
        cluster["transport_socket"] = _tls(settings, settings.grpc_upstreams_ca, hosts)


def _tls(settings: Settings, authorities: Path, hosts: Sequence[str]) -> dict[str, Any]:
    names = [
        {"san_type": "IP_ADDRESS" if _is_ip(host) else "DNS", "matcher": {"exact": host}}
        for host in hosts
    ]
    context: dict[str, Any] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2"],
        "validation_context": {
            "trusted_ca": {"filename": str(authorities.absolute())},
            "match_typed_subject_alt_names": names,
        },
    }
    if settings.grpc_upstreams_cert is not None:
        context["tls_certificate_sds_secret_configs"] = [tls.UPSTREAMS.reference(settings)]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"type.googleapis.com/{tls.PACKAGE}.UpstreamTlsContext",
            # No address may be one.
            "auto_host_sni": not any(map(_is_ip, hosts)),
            "common_tls_context": context,
        },
    }


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _set_endpoints(cluster: dict[str, Any], addresses: Sequence[dict[str, Any]]) -> None:
    [places] = cluster["load_assignment"]["endpoints"]
    places["lb_endpoints"] = [{"endpoint": {"address": address}} for address in addresses]
