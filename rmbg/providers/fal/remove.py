"""fal: BRIA's RMBG 2.0, through the job queue or by a direct request."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.prices import PRICES, amount
from rmbg.errors import RmbgError, ServiceError
from rmbg.net.client import Request, Response, ServiceClient, service_url
from rmbg.net.download import check, matches, parse
from rmbg.net.exchange import Exchange
from rmbg.providers.base import Option, ProviderInfo, RequestContext
from rmbg.providers.fal.queue import cancel_on_error, failure, fetch_job_result, parse_job, resumed_job, wait
from rmbg.providers.remote import EncodedPhoto, ProviderResult, Remote, download, from_data_uri
from rmbg.settings import Settings

REMOVE = "fal-ai/bria/background/remove"

#: Hosts of fal's files. The last one is restricted to a folder, as other parties use the same host.
HOSTS = (".fal.media", "fal.media", "storage.googleapis.com/falserverless/")

#: Deadline of the price request, in seconds.
PRICE_SECONDS = 4.0

OPTIONS = (
    Option(
        "mode",
        "Processing",
        "choice",
        "queue",
        "queue: as a job that can be resumed and cancelled; direct: within one request.",
        choices=("queue", "direct"),
        advanced=True,
    ),
    Option(
        "input",
        "Photo upload",
        "choice",
        "inline",
        "inline: within the request; upload: as a file in fal's storage.",
        choices=("inline", "upload"),
        advanced=True,
    ),
    Option(
        "sync_mode",
        "Result in the response",
        "bool",
        True,
        "The result is part of the response and is not stored in fal's history.",
        advanced=True,
    ),
    Option(
        "store_io",
        "Permit storage at fal",
        "bool",
        False,
        "fal may store request and response for 30 days.",
        advanced=True,
    ),
    Option(
        "expiration",
        "Deletion at fal after (seconds)",
        "int",
        3600,
        "Time after which fal deletes uploads and results.",
        60,
        2_592_000,
        advanced=True,
    ),
)


@dataclass(frozen=True)
class Endpoints:
    """Base URLs of fal's APIs."""

    run: str
    queue: str
    api: str
    rest: str

    @classmethod
    def of(cls, settings: Settings) -> Endpoints:
        """Return the URLs of the environment, or fal's own."""
        return cls(
            service_url(settings, "RMBG_FAL_URL", "https://fal.run"),
            service_url(settings, "RMBG_FAL_QUEUE_URL", "https://queue.fal.run"),
            service_url(settings, "RMBG_FAL_API_URL", "https://api.fal.ai"),
            service_url(settings, "RMBG_FAL_REST_URL", "https://rest.fal.ai"),
        )


class Fal(Remote):
    """RMBG 2.0 at fal."""

    service = "fal"
    resumes = "by handle"
    info = ProviderInfo(
        id="fal-rmbg-2.0",
        title="fal: RMBG 2.0",
        kind="remote",
        model=REMOVE,
        license="BRIA's RMBG 2.0, trained on licensed pictures; the price includes commercial use.",
        license_url="https://fal.ai/models/fal-ai/bria/background/remove",
        pixels="The photo is sent to fal.ai. The request disables the storage of photo and result.",
        price_usd=PRICES["fal-rmbg-2.0"].usd,
        price_basis="listed",
        price_seen=PRICES["fal-rmbg-2.0"].seen,
        seconds=4.0,
        input_size="1024 x 1024",
        supports=("soft alpha", "queue", "cancel"),
        options=OPTIONS,
        key_name="FAL_KEY",
    )

    def request_result(
        self, client: ServiceClient, encoded_photo: EncodedPhoto, options: Mapping[str, Any], context: RequestContext
    ) -> ProviderResult:
        arguments = {
            "image_url": image_url(client, encoded_photo, options, context),
            "sync_mode": options["sync_mode"],
        }
        response = run(client, REMOVE, arguments, options, context, PRICES[self.info.id].counted)
        return ProviderResult(fetch_image(client, response.json().get("image"), context))


def run(
    client: ServiceClient,
    endpoint: str,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    context: RequestContext,
    listed: Decimal,
    count: int = 1,
) -> Response:
    """Run an endpoint and return its response; sets ``client.cost``.

    Parameters
    ----------
    client : ServiceClient
    endpoint : str
    arguments : mapping
        JSON body of the request.
    options : mapping
        Values of `OPTIONS`.
    context : RequestContext
    listed : Decimal
        Listed price of one result in US dollars, used if fal does not report the cost.
    count : int
        Number of requested results.

    Raises
    ------
    ServiceError
        If there is no result.
    """
    endpoints = Endpoints.of(context.settings)
    headers = headers_for(client.key, options)
    if options["mode"] == "direct":
        context.progress(None, "fal is processing the photo")
        response = client.send(
            Request("POST", f"{endpoints.run}/{endpoint}", headers, json=arguments, pays=True, free_if_busy=True)
        )
        if not response.ok:
            raise failure(client, response, step="run")
    else:
        job = resumed_job(client, context, endpoints.queue)
        if job is None:
            context.progress(None, "Sending the photo to fal")
            response = client.send(
                Request("POST", f"{endpoints.queue}/{endpoint}", headers, json=arguments, pays=True, free_if_busy=True)
            )
            if not response.ok:
                raise failure(client, response, step="submit")
            job = parse_job(client, response, endpoints.queue)
            if context.job:
                context.job.keep(job.handle)
        with cancel_on_error(client, job, headers):
            wait(client, job, headers, context)
        context.progress(None, "Downloading the result from fal")
        response = fetch_job_result(client, job, headers)
    body = response.json()
    if not isinstance(body, dict) or not (body.get("image") or body.get("images")):
        raise ServiceError("The response of fal has no picture.")
    client.cost = _cost(client, response, endpoint, endpoints, listed, count)
    return response


def headers_for(key: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers with the API key and the storage options."""
    lifecycle = json.dumps({"expiration_duration_seconds": options["expiration"]})
    headers = {"Authorization": f"Key {key}", "X-Fal-Object-Lifecycle-Preference": lifecycle}
    return headers if options["store_io"] else headers | {"X-Fal-Store-IO": "0"}


def image_url(client: ServiceClient, encoded_photo: EncodedPhoto, options: Mapping[str, Any], context: RequestContext) -> str:
    """Return the photo as a data URI, or upload it to fal's storage and return its URL."""
    if options["input"] == "inline":
        return encoded_photo.data_uri
    context.progress(None, "Uploading the photo to fal")
    rest = Endpoints.of(context.settings).rest
    url = f"{rest}/storage/auth/token?storage_type=fal-cdn-v3"
    response = client.send(Request("POST", url, {"Authorization": f"Key {client.key}"}, json={}))
    if not response.ok:
        raise failure(client, response, step="submit")
    token = response.json()
    if not isinstance(token, dict) or not all(isinstance(token.get(k), str) for k in ("token", "token_type", "base_url")):
        raise ServiceError("The response of fal's storage has no upload token.")
    base = parse(token["base_url"])
    loopback = matches(base, context.settings.result_hosts)
    check(base, HOSTS + context.settings.result_hosts, loopback)
    lifecycle = json.dumps({"expiration_duration_seconds": options["expiration"]})
    headers = {
        "Authorization": f"{token['token_type']} {token['token']}",
        "Content-Type": encoded_photo.mime,
        "X-Fal-File-Name": "photo." + encoded_photo.mime.removeprefix("image/"),
        "X-Fal-Object-Lifecycle": lifecycle,
    }
    exchange = Exchange(max(client.exchange.remaining, 0.01), context.cancelled, loopback=loopback)
    with ServiceClient("fal's storage", exchange, key=token["token"], max_bytes=100_000) as storage:
        response = storage.send(Request("POST", f"{str(base).rstrip('/')}/files/upload", headers, content=encoded_photo.data))
    body = response.json()
    if not response.ok or not isinstance(body, dict) or not isinstance(body.get("access_url"), str):
        raise ServiceError(f"The upload to fal's storage failed (HTTP {response.status}).")
    return body["access_url"]


def fetch_image(client: ServiceClient, image: Any, context: RequestContext) -> bytes:
    """Return the file of an image in a response, which is inline or in fal's storage."""
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise ServiceError("The response of fal has no picture.")
    if url.startswith("data:"):
        return from_data_uri(client, url)
    context.progress(None, "Downloading the result from fal")
    return download(client, url, HOSTS, context.settings)


def _cost(client: ServiceClient, response: Response, endpoint: str, endpoints: Endpoints, listed: Decimal, count: int) -> Cost:
    """Return billed units times the unit price of fal; the listed price replaces what fal does not report."""
    units = amount(response.headers.get("x-fal-billable-units"))
    if units is None:
        return Cost(count * listed, "listed")
    price = None
    with contextlib.suppress(RmbgError), client.side_client(PRICE_SECONDS) as side_client:
        url = f"{endpoints.api}/v1/models/pricing?endpoint_id={urllib.parse.quote(endpoint, safe='')}"
        price = _unit_price(side_client.send(Request("GET", url, {"Authorization": f"Key {client.key}"})).json(), endpoint)
    return Cost(units * listed, "listed") if price is None else Cost(units * price, "charged")


def _unit_price(body: Any, endpoint: str) -> Decimal | None:
    """Return the unit price of an endpoint in US dollars from a pricing response; None if it is missing."""
    rows = body.get("prices") if isinstance(body, dict) else None
    for row in rows if isinstance(rows, list) else [body]:
        if isinstance(row, dict) and row.get("endpoint_id", endpoint) == endpoint and row.get("currency", "USD") == "USD":
            return amount(row.get("unit_price"))
    return None
