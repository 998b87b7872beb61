"""The proxy that the environment has for a model server."""

import ipaddress
from urllib.request import getproxies

from yarl import URL

from service.errors import SettingsError


def proxy_of(url: URL) -> URL | None:
    """Returns the proxy for a server, from `HTTPS_PROXY`, `HTTP_PROXY` or else `ALL_PROXY`.

    None if there is none, if `NO_PROXY` names the server, and for this machine, to which a proxy
    has no way. Raises SettingsError for a proxy that does not speak HTTP.
    """
    proxies = getproxies()
    exempt = (entry.strip() for entry in proxies.get("no", "").split(","))
    name = url.scheme if proxies.get(url.scheme) else "all"
    proxy = proxies.get(name)
    if not proxy or _is_loopback(url) or any(_names(entry, url) for entry in exempt if entry):
        return None
    try:
        address = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        raise SettingsError(f"{name.upper()}_PROXY: no URL") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise SettingsError(f"{name.upper()}_PROXY: must begin with http:// or https://")
    return address


def _names(entry: str, url: URL) -> bool:
    """Returns whether an entry of `NO_PROXY` names a server.

    It is `*`, an address or a network of addresses, or a domain, which includes those below it;
    `.domain` and `*.domain` are only those. It may have a port, and a scheme, with which a domain
    is that host alone.
    """
    scheme, separator, place = entry.lower().rpartition("://")
    if separator and scheme not in ("all", url.scheme):
        return False
    name, port = _parts(place)
    if port and port != str(url.port):
        return False
    host = (url.host or "").lower()
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        pass
    if name == "*":
        return True
    if name.startswith((".", "*.")):
        return host.endswith(name.removeprefix("*"))
    return host == name or (not separator and host.endswith(f".{name}"))


def _parts(place: str) -> tuple[str, str]:
    """Returns the host and the port of a place, each empty if it is not there."""
    if place.startswith("["):
        name, _, rest = place[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = place.partition(":")
    return (place, "") if ":" in port else (name, port)


def _is_loopback(url: URL) -> bool:
    try:
        return ipaddress.ip_address(url.host or "").is_loopback
    except ValueError:
        return url.host == "localhost"
