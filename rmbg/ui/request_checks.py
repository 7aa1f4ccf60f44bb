"""Checks of a request's host, origin, route and content type; each raises `Refused`."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import Scope

from rmbg.ui.origins import Origins, parse_netloc, parse_origin, server_host

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
    """Return the part of the path after `PREFIX`, empty for the page's own files; raises Refused for routes not in use."""
    method, path = scope["method"], scope["path"]
    _, found, route = path.partition(PREFIX)
    if method == "OPTIONS":
        return route
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

    Browsers send JSON to other origins only after a preflight request.
    """
    if scope["method"] != "POST":
        return
    required = "multipart/form-data" if route.rstrip("/") == "upload" else "application/json"
    if headers.get("content-type", "").partition(";")[0].strip().lower() != required:
        raise Refused(415, f"The Content-Type of this request must be {required}.")
