"""Checks of a request: host, origin, forwarded headers, route and content type."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from rmbg.errors import OptionError, printable
from rmbg.rest.app import route_of

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NETLOC = re.compile(rf"({_LABEL}(?:\.{_LABEL}){{0,30}}|\[[0-9a-f:.]{{2,45}}\])(?::([0-9]{{1,5}}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}

#: Headers that reverse proxies add. Web pages can set them only after a preflight request.
FORWARDED = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Netloc:
    """Host in lower case, IPv6 in brackets and compressed, and the port if there is one."""

    host: str
    port: int | None = None

    @property
    def is_address(self) -> bool:
        """True if the host is an IP address and not a name."""
        return self.host.startswith("[") or _ip(self.host) is not None


def parse_netloc(text: str) -> Netloc | None:
    """Parse a Host header, or an Origin without its scheme; None if it is invalid."""
    match = _NETLOC.fullmatch(text.lower()) if len(text) <= 260 else None
    if match is None:
        return None
    host, port = match[1], int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65535:
        return None
    if not host.startswith("["):
        return Netloc(host, port)
    address = _ip(host[1:-1])
    return None if address is None else Netloc(f"[{address}]", port)


def parse_origin(text: str) -> tuple[str, Netloc] | None:
    """Parse an Origin header into scheme and netloc; None if it is opaque (``null``), invalid, or not HTTP."""
    scheme, separator, rest = text.partition("://")
    netloc = parse_netloc(rest) if separator and scheme in _DEFAULT_PORTS else None
    return None if netloc is None else (scheme, netloc)


def parse_hosts(texts: Iterable[str], name: str) -> tuple[Netloc, ...]:
    """Parse the values of the option `name`, which lists hosts.

    Raises
    ------
    OptionError
        If a value is not a host name or address.
    """
    hosts = []
    for text in texts:
        netloc = parse_netloc(text.strip())
        if netloc is None:
            raise OptionError(
                f"{name} has {printable(text, 60)!r}; it must be a host such as studio.example.org or [::1]:8080."
            )
        hosts.append(netloc)
    return tuple(hosts)


@dataclass(frozen=True)
class Origins:
    """The hosts of a server.

    Attributes
    ----------
    own : set of str
        Hosts of this server, on every port.
    listed : tuple of Netloc
        Hosts from the owner's settings; an entry without a port matches every port.
    any_host : bool
        Accept every Host, for a shared server with unknown public names; it does not use its owner's keys. Cross-origin
        requests are refused in any case.
    """

    own: set[str]
    listed: tuple[Netloc, ...] = ()
    any_host: bool = False

    def accepts_host(self, host: Netloc, server: str | None) -> bool:
        """True if `host` is valid in the Host header of a connection to the local address `server`."""
        return self.any_host or host.host in self.own or self._is_listed(host) or (host.is_address and host.host == server)

    def accepts_origin(self, scheme: str, origin: Netloc, hosts: Iterable[Netloc]) -> bool:
        """True if the origin is same-origin with one of `hosts`, the hosts of the request, or is listed by the owner."""
        port = origin.port or _DEFAULT_PORTS[scheme]
        same = any(origin.host == host.host and port == (host.port or _DEFAULT_PORTS[scheme]) for host in hosts)
        return same or self._is_listed(Netloc(origin.host, port))

    def _is_listed(self, netloc: Netloc) -> bool:
        return any(entry.host == netloc.host and entry.port in (None, netloc.port) for entry in self.listed)


def own_hosts(bound: str) -> set[str]:
    """Hosts of a server that listens on `bound`, in the form of a Host header.

    Other names that resolve to loopback, such as ``localhost.`` and ``x.localhost``, are excluded: this program does not use
    them, and a page under such a name belongs to another site.
    """
    bound = bound.strip("[]").lower()
    hosts, address = {"localhost", "127.0.0.1", "[::1]"}, _ip(bound)
    if address is not None and address.is_loopback:
        hosts -= {"[::1]"} if address.version == 4 else {"127.0.0.1"}
        if address.version == 4 and bound != "127.0.0.1":
            hosts -= {"127.0.0.1", "localhost"}
    hosts.add(bound if address is None else _host(address))
    if not is_loopback(bound):
        name = socket.gethostname().lower()
        hosts |= {name, f"{name.partition('.')[0]}.local"}
    return hosts


def public_hosts(environ: Mapping[str, str]) -> tuple[Netloc, ...]:
    """Public hosts of the app from the environment variables that Spaces and reverse proxies set."""
    root = re.match("https?://([^/]+)", environ.get("GRADIO_ROOT_PATH", ""))
    names = [*environ.get("SPACE_HOST", "").split(","), root[1] if root else ""]
    return tuple(netloc for netloc in (parse_netloc(name.strip()) for name in names) if netloc is not None)


def is_loopback(bound: str) -> bool:
    """True if a server that listens on `bound` is reachable from this machine only."""
    address = _ip(bound)
    return bound == "localhost" or (address is not None and address.is_loopback)


def server_host(scope_server: tuple[str, int | None] | None) -> str | None:
    """Local address of a connection in the form of a Host header; None if it is unknown."""
    address = None if scope_server is None else _ip(scope_server[0])
    return None if address is None else _host(getattr(address, "ipv4_mapped", None) or address)


@dataclass(frozen=True)
class Proxies:
    """Addresses of the reverse proxies whose headers are used; `private` stands for loopback and all private networks."""

    private: bool
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str], name: str) -> Proxies:
        """Parse the values of the setting `name`: addresses, networks such as 10.0.0.0/8, and ``private``.

        Raises
        ------
        OptionError
            If a value is none of these.
        """
        networks = []
        for text in texts:
            if text == "private":
                continue
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                raise OptionError(
                    f"{name} has {printable(text, 60)!r}; it must be an address such as 10.0.0.2, a network such as "
                    "10.0.0.0/8, or private."
                ) from None
        return cls("private" in texts, tuple(networks))

    def trust(self, peer: str) -> bool:
        """True if the connection from the address `peer` is that of a trusted proxy."""
        address = _ip(peer)
        listed = address is not None and any(address in network for network in self.networks)
        return listed or (self.private and address is not None and address.is_private)

    def received(self, scope: Scope) -> Scope:
        """Return the scope of a request with the address and the scheme that a trusted proxy reports.

        The forwarded headers of all others are removed. Of ``X-Forwarded-For`` only the last address is used: the nearest proxy
        appends it, and a client can forge the others.
        """
        headers = Headers(scope=scope)
        if not any(name in headers for name in FORWARDED):
            return scope
        if not self.trust((scope.get("client") or ("", 0))[0]):
            names = {name.encode() for name in FORWARDED}
            return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in names]}
        client = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        changes: dict[str, Any] = {"client": (client, 0)} if _ip(client) else {}
        return {**scope, **changes, **({"scheme": scheme} if scheme in _DEFAULT_PORTS else {})}


def _ip(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _host(address: Address) -> str:
    """An address in the form of a Host header."""
    return f"[{address}]" if address.version == 6 else str(address)


# Checks of a request's host, origin, route and content type; each raises `Refused`.


PREFIX = "/gradio_api/"

#: Route of the drafts, which is not one of Gradio.
DRAFT = "draft"

#: The routes that the page and the API clients use, by method; Gradio has more.
ROUTES = {
    "GET": re.compile(
        "(app_id|info|user|token|login_check|startup-events|theme\\.css|queue/(data|status)|upload_progress|openapi\\.json)/?"
        "|heartbeat/[^/]+|call/(v2/)?[^/]+/[^/]+|custom_component/.+|file=(?![a-zA-Z][a-zA-Z0-9+.-]*:/).+|mcp(/.*)?"
    ),
    "POST": re.compile(f"(run|api|call|call/v2)/[^/]+/?|{DRAFT}|(queue/join|cancel|reset|upload|mcp)/?|mcp/.*"),
    "DELETE": re.compile("mcp(/.*)?"),
}

#: Routes of the sign-in, which a server without it refuses.
SIGN_IN = ("/login/huggingface", "/login/callback", "/logout")

UNKNOWN_HOST = "The name in the {header} header is not a name of this server. Its owner can add it with --allow-host."
CROSS_SITE = "Pages of other sites may not use this server. Its owner can add their host with --allow-host."


class Refused(Exception):  # noqa: N818
    """A request that the guard rejects with an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_origin(origins: Origins, scope: Scope, headers: Headers, *, embeddable: bool = False) -> None:
    """Raise Refused for requests with an unknown Host and for cross-site requests."""
    host_headers = headers.getlist("host")
    host = parse_netloc(host_headers[0]) if len(host_headers) == 1 else None
    if host is None or not origins.accepts_host(host, server_host(scope.get("server"))):
        raise Refused(403, UNKNOWN_HOST.format(header="Host"))
    forwarded = parse_netloc(headers.get("x-forwarded-host", "").partition(",")[0].strip())
    if forwarded is not None and not origins.accepts_host(forwarded, None):
        raise Refused(403, UNKNOWN_HOST.format(header="X-Forwarded-Host"))
    origin_headers = headers.getlist("origin")
    if origin_headers:
        origin = parse_origin(origin_headers[0]) if len(origin_headers) == 1 else None
        hosts = [netloc for netloc in (host, forwarded) if netloc is not None]
        if origin is None or not origins.accepts_origin(*origin, hosts):
            raise Refused(403, CROSS_SITE)
        return
    # Browsers send no Origin with images, scripts, frames and links; of these only links to the app are allowed.
    link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    if headers.get("sec-fetch-site", "") in ("cross-site", "same-site") and not (
        link and (embeddable or headers.get("sec-fetch-dest") == "document")
    ):
        raise Refused(403, CROSS_SITE)


def check_route(scope: Scope, *, sign_in: bool = False) -> str:
    """Return the part of the path after `PREFIX`, the route of remove.bg's API, or an empty text for the page's own files.

    Raises
    ------
    Refused
        For routes not in use.
    """
    method, path = scope["method"], scope["path"]
    _, found, route = path.partition(PREFIX)
    if method == "OPTIONS":
        return route
    if not found and route_of(path):
        return route_of(path)
    if not found:
        if method not in ("GET", "HEAD"):
            raise Refused(405, "Method not allowed.")
        if sign_in and path in SIGN_IN:
            return ""
        if re.search("/(monitoring|login|logout|docs|redoc|openapi\\.json)(/|$)", path):
            raise Refused(404, "Not found.")
        return ""
    allowed = ROUTES.get("GET" if method == "HEAD" else method)
    if allowed is None or not allowed.fullmatch(route):
        raise Refused(404, "Not found.")
    return route


def check_content_type(scope: Scope, headers: Headers, route: str) -> None:
    """Raise Refused for bodies that a form of another site could send.

    Browsers send JSON to other origins only after a preflight request. The forms of remove.bg's API, which has no sessions, are
    protected by the check of the origin.
    """
    if scope["method"] != "POST" or route == route_of(scope["path"]):
        return
    required = "multipart/form-data" if route.rstrip("/") == "upload" else "application/json"
    if headers.get("content-type", "").partition(";")[0].strip().lower() != required:
        raise Refused(415, f"The Content-Type of this request must be {required}.")
