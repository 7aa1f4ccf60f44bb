"""fal: BRIA's RMBG 2.0, by queue or directly."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rmbg.cutout import Cost
from rmbg.errors import RmbgError, ServiceError
from rmbg.fetch import check, matches, parse
from rmbg.http import Request, Response, Session, address
from rmbg.network import Trip
from rmbg.prices import PRICES, amount
from rmbg.providers.base import Call, Option, ProviderInfo
from rmbg.providers.fal_queue import cancelling, failure, submitted, wait
from rmbg.providers.remote import Remote, Reply, Sent, download, from_data_uri
from rmbg.settings import Settings

REMOVE = "fal-ai/bria/background/remove"

#: Where fal leaves files. The last is a folder on a host that others use too.
HOSTS = (".fal.media", "fal.media", "storage.googleapis.com/falserverless/")

#: Seconds that asking for the price may take.
PRICE_SECONDS = 4.0

OPTIONS = (
    Option(
        "mode",
        "Way",
        "choice",
        "queue",
        "queue: can be resumed and cancelled; direct: one request",
        choices=("queue", "direct"),
    ),
    Option(
        "input", "Sending", "choice", "inline", "inline: in the request; upload: to fal's storage", choices=("inline", "upload")
    ),
    Option(
        "sync_mode", "Result in the answer", "bool", True, "The result comes in the answer and is not kept in fal's history."
    ),
    Option("store_io", "Let fal keep the request", "bool", False, "fal keeps requests and answers for 30 days if it may."),
    Option("expiration", "Seconds until files go", "int", 3600, "After that fal deletes uploads and results.", 60, 2_592_000),
)


@dataclass(frozen=True)
class Addresses:
    """fal's services."""

    run: str
    queue: str
    api: str
    rest: str

    @classmethod
    def of(cls, settings: Settings) -> Addresses:
        return cls(
            address(settings, "RMBG_FAL_URL", "https://fal.run"),
            address(settings, "RMBG_FAL_QUEUE_URL", "https://queue.fal.run"),
            address(settings, "RMBG_FAL_API_URL", "https://api.fal.ai"),
            address(settings, "RMBG_FAL_REST_URL", "https://rest.fal.ai"),
        )


class Fal(Remote):
    service = "fal"
    info = ProviderInfo(
        id="fal-rmbg-2.0",
        title="fal: RMBG 2.0",
        kind="remote",
        model=REMOVE,
        licence="BRIA's RMBG 2.0, trained on licensed pictures; commercial use is part of the price.",
        licence_url="https://fal.ai/models/fal-ai/bria/background/remove",
        pixels="The photo is sent to fal.ai, which is told to keep neither it nor the result.",
        price_usd=PRICES["fal-rmbg-2.0"].usd,
        price_basis="listed",
        price_seen=PRICES["fal-rmbg-2.0"].seen,
        seconds=4.0,
        input_size="1024 x 1024",
        supports=("soft alpha", "queue", "cancel"),
        options=OPTIONS,
        key_name="FAL_KEY",
    )

    def ask(self, session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> Reply:
        arguments = {
            "image_url": image_url(session, sent, options, call),
            "sync_mode": options["sync_mode"],
        }
        response = run(session, REMOVE, arguments, options, call, PRICES[self.info.id].counted)
        return Reply(file_of(session, response.json().get("image"), call))


def run(
    session: Session,
    endpoint: str,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    call: Call,
    listed: Decimal,
    count: int = 1,
) -> Response:
    """The answer of an endpoint, by queue or directly; what it took is in ``session.cost`` then.

    `listed` is the price of one of `count` results by the price list, for when fal does not say what it took.
    """
    where = Addresses.of(call.settings)
    headers = headers_for(session.key, options)
    if options["mode"] == "direct":
        call.progress(None, "fal is working")
        response = session.send(Request("POST", f"{where.run}/{endpoint}", headers, json=arguments, pays=True))
        if not response.ok:
            raise failure(session, response, step="run")
    else:
        call.progress(None, "Sending the photo to fal")
        response = session.send(Request("POST", f"{where.queue}/{endpoint}", headers, json=arguments, pays=True))
        if not response.ok:
            raise failure(session, response, step="submit")
        job = submitted(session, response, where.queue)
        with cancelling(session, job, headers):
            wait(session, job, headers, call)
        call.progress(None, "Fetching the result from fal")
        response = session.send(Request("GET", job.result, headers))
        if not response.ok:
            raise failure(session, response, step="result")
    body = response.json()
    if not isinstance(body, dict) or not (body.get("image") or body.get("images")):
        raise ServiceError("fal says that it is done, but there is no picture in its answer.")
    session.cost = _cost(session, response, endpoint, where, listed, count)
    return response


def headers_for(key: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The key, and what fal may keep."""
    life = json.dumps({"expiration_duration_seconds": options["expiration"]})
    headers = {"Authorization": f"Key {key}", "X-Fal-Object-Lifecycle-Preference": life}
    return headers if options["store_io"] else headers | {"X-Fal-Store-IO": "0"}


def image_url(session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> str:
    """The photo as fal takes it: inside the request, or uploaded before and by its address."""
    if options["input"] == "inline":
        return sent.data_uri
    call.progress(None, "Uploading the photo to fal")
    rest = Addresses.of(call.settings).rest
    url = f"{rest}/storage/auth/token?storage_type=fal-cdn-v3"
    response = session.send(Request("POST", url, {"Authorization": f"Key {session.key}"}, json={}))
    if not response.ok:
        raise failure(session, response, step="submit")
    token = response.json()
    if not isinstance(token, dict) or not all(isinstance(token.get(k), str) for k in ("token", "token_type", "base_url")):
        raise ServiceError("fal's storage answered with something else than leave to upload.")
    base = parse(token["base_url"])
    here = matches(base, call.settings.result_hosts)
    check(base, HOSTS + call.settings.result_hosts, here)
    life = json.dumps({"expiration_duration_seconds": options["expiration"]})
    headers = {
        "Authorization": f"{token['token_type']} {token['token']}",
        "Content-Type": sent.mime,
        "X-Fal-File-Name": "photo." + sent.mime.removeprefix("image/"),
        "X-Fal-Object-Lifecycle": life,
    }
    trip = Trip(max(session.trip.left, 0.01), call.cancelled, loopback=here)
    with Session("fal's storage", trip, key=token["token"], max_bytes=100_000) as storage:
        response = storage.send(Request("POST", f"{str(base).rstrip('/')}/files/upload", headers, content=sent.data))
    body = response.json()
    if not response.ok or not isinstance(body, dict) or not isinstance(body.get("access_url"), str):
        raise ServiceError(f"fal's storage did not take the photo (HTTP {response.status}).")
    return body["access_url"]


def file_of(session: Session, image: Any, call: Call) -> bytes:
    """The file of an image in an output: from inside the answer, or from fal's storage."""
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise ServiceError("fal says that it is done, but there is no picture in its answer.")
    if url.startswith("data:"):
        return from_data_uri(session, url)
    call.progress(None, "Fetching the picture from fal")
    return download(session, url, HOSTS, call.settings)


def _cost(session: Session, response: Response, endpoint: str, where: Addresses, listed: Decimal, count: int) -> Cost:
    """Units that fal billed times its price of one; by the price list where it says only one of them, or neither."""
    units = amount(response.headers.get("x-fal-billable-units"))
    if units is None:
        return Cost(count * listed, "listed")
    price = None
    with contextlib.suppress(RmbgError), session.aside(PRICE_SECONDS) as other:
        url = f"{where.api}/v1/models/pricing?endpoint_id={urllib.parse.quote(endpoint, safe='')}"
        price = _unit_price(other.send(Request("GET", url, {"Authorization": f"Key {session.key}"})).json(), endpoint)
    return Cost(units * listed, "listed") if price is None else Cost(units * price, "charged")


def _unit_price(body: Any, endpoint: str) -> Decimal | None:
    """The price of one unit, in dollars, from the answer of the price list."""
    rows = body.get("prices") if isinstance(body, dict) else None
    for row in rows if isinstance(rows, list) else [body]:
        if isinstance(row, dict) and row.get("endpoint_id", endpoint) == endpoint and row.get("currency", "USD") == "USD":
            return amount(row.get("unit_price"))
    return None
