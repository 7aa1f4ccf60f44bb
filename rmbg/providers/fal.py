"""fal: its endpoints, through the job queue or by a direct request.

Each job has its own URLs. Its result can be fetched repeatedly, and it can be cancelled. Submission is not idempotent, so a
job is submitted once.

https://fal.ai/docs/model-apis/model-endpoints/queue
"""

from __future__ import annotations

import contextlib
import itertools
import json
import urllib.parse
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.quote import amount
from rmbg.errors import OptionError, RmbgError, ServiceError, check_text
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.net.download import check, matches, parse
from rmbg.net.exchange import Exchange
from rmbg.providers.base import Option, advanced, choice
from rmbg.providers.remote import (
    EncodedPhoto,
    PaidCall,
    ProviderResult,
    Remote,
    encode_photo,
    http_failure,
    picture,
    service_info,
)
from rmbg.providers.service import Path, job_urls, poll, saved_urls
from rmbg.runtime.messages import Message

#: Hosts of fal's storage, to which its upload token may be sent.
HOSTS = (".fal.media", "fal.media")

#: Deadline of the price request, in seconds.
PRICE_SECONDS = 4.0

#: Prefixes of ``error_type`` for failures of an accepted job on fal's side; these are not billed. Other errors of a result
#: request, such as an invalid key or the rate limit, do not concern the job.
JOB_FAILURES = (
    "internal_",
    "generation_timeout",
    "downstream_service_",
    "request_timeout",
    "startup_timeout",
    "runner_",
    "client_",
)


def finish(
    call: PaidCall, urls: list[str], headers: Mapping[str, str], failure: Callable[..., RmbgError], progress: str = ""
) -> Response:
    """Poll a job until it is complete and return its result; the job is cancelled if polling fails.

    The result is fetched again unless an error is the outcome of the job itself. The same response can be a temporary fault.
    It is the outcome if the state of the job had an error, which is an optional field, or if it is repeated.

    Parameters
    ----------
    call : PaidCall
    urls : list of str
        URLs of the state, the result, and the cancellation, if there is one.
    headers : mapping
        With the key of the service.
    failure : callable (call, response, step=...) -> RmbgError
        Returns the error of a response.
    progress : str
        Replaces the progress messages.
    """

    def complete(response: Response) -> bool:
        # A failed job is complete as well, and its error is in the result.
        if response.json("status") == "COMPLETED":
            return True
        text = progress_text(call, response)
        call.progress(progress or text)
        return False

    state, result, *cancel = urls
    stop = Request("PUT", cancel[0], headers) if cancel else None
    response = poll(call, Request("GET", state, headers), complete, failure, stop)
    failures = itertools.count(2 if response.json("error") or response.json("error_type") else 1)

    def final(response: Response) -> bool:
        return error_detail(response)[1].startswith(JOB_FAILURES) and next(failures) >= 2

    return call.checked(call.fetch_result(Request("GET", result, headers), final), failure, step="result")


def progress_text(call: PaidCall, response: Response) -> str:
    """Return the progress message for the state of a job that is not complete."""
    status = response.json("status")
    if status == "IN_QUEUE":
        position = response.json("queue_position")
        return f"Waiting in fal's queue, {position} jobs ahead" if position else "Next in fal's queue"
    if status != "IN_PROGRESS":
        raise ServiceError(f"fal returned an unknown job status: {call.sanitize(status or 'none', 40)}.")
    messages = [str(entry.get("message", "")) for entry in response.objects("logs")]
    if messages:
        return f"fal is processing the photo: {call.sanitize(messages[-1], 80)}"
    return Message("{service} is processing the photo", service="fal")


def failure(client: ServiceClient, response: Response, *, step: str) -> ServiceError:
    """Return the error of a response, and mark the call as rejected if it cannot have been charged.

    fal bills successful jobs, may bill invalid inputs (422), and does not bill rejected requests. After an error of a gateway
    the charge is unknown.
    """
    detail, kind = error_detail(response)
    status = response.status
    rejected = step in ("submit", "run") and 300 <= status < 500
    failed = step in ("run", "result") and kind.startswith(JOB_FAILURES)
    if status != 422 and (rejected or failed):
        client.mark_rejected()
    if status == 403 and any(word in detail.lower() for word in ("balance", "locked")):
        kind = "balance"  # an account without balance is locked
    return http_failure(client, response, detail, code=kind)


def error_detail(response: Response) -> tuple[str, str]:
    """Return message and type of an error, without the input that fal may repeat in it."""
    detail, kind = response.json("detail"), str(response.json("error_type") or "")
    if isinstance(detail, list):
        entries = response.objects("detail")
        kind = kind or str(next((entry.get("type") for entry in entries), ""))
        return "; ".join(str(entry.get("msg") or entry.get("type") or "") for entry in entries), kind
    return str(detail or ""), kind


#: URLs of the state, the result and the cancellation of a job in the response to its submission.
JOB_URLS = (("status_url",), ("response_url",), ("cancel_url",))

OPTIONS = advanced(
    choice(
        "mode",
        "Processing",
        ("queue", "direct"),
        "queue: as a job that can be resumed and cancelled; direct: within one request.",
    ),
    choice("input", "Photo upload", ("inline", "upload"), "inline: within the request; upload: as a file in fal's storage."),
    Option(
        "sync_mode", "Result in the response", True, "The result is part of the response and is not stored in fal's history."
    ),
    Option("store_io", "Permit storage at fal", False, "fal may store request and response for 30 days."),
    Option(
        "expiration",
        "Deletion at fal after (seconds)",
        3600,
        "Time after which fal deletes uploads and results.",
        60,
        2_592_000,
    ),
)


class Fal(Remote):
    """Endpoint of fal; `fields` are those of ``ProviderInfo`` that differ between the endpoints.

    Parameters
    ----------
    id : str
    options : tuple of Option
        Arguments of the endpoint in addition to the picture and `OPTIONS`.
    constants : mapping
        Arguments without an option; those that are None are not sent.
    image : Path
        Picture in the response.
    max_side : int or None
        See `encode_photo`.
    """

    service = "fal"
    account = "fal.ai/dashboard"
    resumes = "by handle"

    def __init__(
        self,
        id: str,
        options: tuple[Option, ...] = (),
        constants: Mapping[str, Any] = MappingProxyType({}),
        image: Path = ("image", "url"),
        max_side: int | None = None,
        **fields: Any,
    ) -> None:
        self.names, self.constants, self.image, self.max_side = [option.name for option in options], constants, image, max_side
        common = {
            "pixels": "The photo is sent to fal.ai. The request disables the storage of photo and result.",
            "license_url": f"https://fal.ai/models/{fields['model']}",
            "seconds": 4.0,
            "input_size": "1024 x 1024",
            "supports": ("soft alpha", "queue", "cancel"),
            "key_name": "FAL_KEY",
        }
        self.info = service_info(id, options=(*options, *OPTIONS), **common | fields)

    def prepare(self, photo: Photo, options: Mapping[str, Any]) -> EncodedPhoto:
        return encode_photo(photo, max_side=self.max_side)

    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        given = {"sync_mode": call.options["sync_mode"], **{name: call.options[name] for name in self.names}, **self.constants}
        arguments = {name: value for name, value in given.items() if value is not None}
        response = run(call, self.info.model, {"image_url": image_url(call, encoded_photo), **arguments})
        return ProviderResult(picture(call, response.json(*self.image)), mask=self.image[0] == "masks")


def run(call: PaidCall, endpoint: str, arguments: Mapping[str, Any], count: int = 1) -> Response:
    """Run an endpoint and return its response; sets ``call.cost``.

    Parameters
    ----------
    call : PaidCall
        Its options include `OPTIONS`.
    endpoint : str
    arguments : mapping
        JSON body of the request.
    count : int
        Number of requested results.

    Raises
    ------
    ServiceError
        If there is no result.
    """
    headers = headers_for(call)

    def post(base: str, step: str) -> Response:
        request = Request("POST", f"{base}/{endpoint}", headers, json=arguments, pays=True, free_if_busy=True)
        return call.checked(call.send(request), failure, step=step)

    if call.options["mode"] == "direct":
        run_url = call.url("RMBG_FAL_URL", "https://fal.run")
        call.progress(Message("{service} is processing the photo", service="fal"))
        response = post(run_url, "run")
    else:
        queue = call.url("RMBG_FAL_QUEUE_URL", "https://queue.fal.run")
        urls = saved_urls(call, queue, len(JOB_URLS))
        if not urls:
            call.progress(Message("Sending the photo to {service}", service="fal"))
            urls = job_urls(call, queue, post(queue, "submit"), JOB_URLS)
        state, *urls = urls
        response = finish(call, [f"{state}?logs=true", *urls], headers, failure)
    if not any(response.json(name) for name in ("image", "images", "masks")):
        raise ServiceError(Message("The response of {service} has no picture.", service="fal"))
    call.cost = _cost(call, response, endpoint, count)
    return response


def headers_for(call: PaidCall) -> dict[str, str]:
    """Return the headers with the API key and the storage options."""
    headers = {"Authorization": f"Key {call.key}", "X-Fal-Object-Lifecycle-Preference": lifecycle(call)}
    return headers if call.options["store_io"] else headers | {"X-Fal-Store-IO": "0"}


def lifecycle(call: PaidCall) -> str:
    """Return the header value for the deletion of stored files."""
    return json.dumps({"expiration_duration_seconds": call.options["expiration"]})


def image_url(call: PaidCall, encoded_photo: EncodedPhoto) -> str:
    """Return the photo as a data URI, or upload it to fal's storage and return its URL."""
    if call.options["input"] == "inline":
        return encoded_photo.data_uri
    call.progress("Uploading the photo to fal")
    rest = call.url("RMBG_FAL_REST_URL", "https://rest.fal.ai")
    url = f"{rest}/storage/auth/token?storage_type=fal-cdn-v3"
    request = Request("POST", url, {"Authorization": f"Key {call.key}"}, json={})
    response = call.checked(call.send(request), failure, step="submit")
    token, token_type, base_url = (response.json(name) for name in ("token", "token_type", "base_url"))
    if not all(isinstance(value, str) for value in (token, token_type, base_url)):
        raise ServiceError("The response of fal's storage has no upload token.")
    base = parse(base_url)
    loopback = matches(base, call.settings.result_hosts)
    if not (loopback or matches(base, HOSTS)):
        raise ServiceError(f"fal's storage is on {base.host}, which is not a host of fal. Use inline as the photo upload.")
    check(base, loopback)
    headers = {
        "Authorization": f"{token_type} {token}",
        "Content-Type": encoded_photo.mime,
        "X-Fal-File-Name": encoded_photo.file[0],
        "X-Fal-Object-Lifecycle": lifecycle(call),
    }
    exchange = Exchange(max(call.exchange.remaining, 0.01), call.exchange.cancelled, loopback=loopback)
    with ServiceClient("fal's storage", exchange, key=token, max_bytes=100_000) as storage:
        response = storage.send(Request("POST", f"{str(base).rstrip('/')}/files/upload", headers, content=encoded_photo.data))
    access_url = response.json("access_url")
    if not response.ok or not isinstance(access_url, str):
        raise ServiceError(f"The upload to fal's storage failed (HTTP {response.status}).")
    return access_url


def _cost(call: PaidCall, response: Response, endpoint: str, count: int) -> Cost:
    """Return billed units times the unit price of fal; the listed price replaces what fal does not report."""
    listed = call.price.usd
    units = amount(response.headers.get("x-fal-billable-units"))
    if units is None:
        return Cost(None, "unknown") if listed is None else Cost(count * listed, "listed")
    price = None
    with contextlib.suppress(RmbgError), call.side_client(PRICE_SECONDS) as side_client:
        api = call.url("RMBG_FAL_API_URL", "https://api.fal.ai")
        url = f"{api}/v1/models/pricing?endpoint_id={urllib.parse.quote(endpoint, safe='')}"
        price = _unit_price(side_client.send(Request("GET", url, {"Authorization": f"Key {call.key}"})), endpoint)
    if price is not None:
        return Cost(units * price, "charged")
    return Cost(None, "unknown") if listed is None else Cost(units * listed, "listed")


def _unit_price(response: Response, endpoint: str) -> Decimal | None:
    """Return the unit price of an endpoint in US dollars from a pricing response; None if it is missing."""
    for row in response.objects("prices"):
        if row.get("endpoint_id", endpoint) == endpoint and row.get("currency", "USD") == "USD":
            return amount(row.get("unit_price"))
    return None


class Sam3(Fal):
    """Endpoint that segments what a text describes, with a hard edge."""

    def check(self, options: Mapping[str, Any]) -> None:
        if not check_text(options["prompt"], "The prompt").strip():
            raise OptionError("fal: SAM 3 needs the option prompt: what to keep, such as prompt=dog.")


FAL = (
    Fal(
        "fal-rmbg-2.0",
        title="fal: RMBG 2.0",
        network="rmbg-2.0",
        model="fal-ai/bria/background/remove",
        license="BRIA's RMBG 2.0, trained on licensed pictures; the price includes commercial use.",
    ),
    Fal(
        "fal-birefnet",
        (
            choice(
                "model",
                "Variant",
                (
                    "General Use (Light)",
                    "General Use (Light 2K)",
                    "General Use (Heavy)",
                    "Matting",
                    "Portrait",
                    "General Use (Dynamic)",
                ),
                "By the names of fal. Matting: soft edges; Portrait: people; Dynamic: inputs of 256 to 2304 pixels.",
            ),
            choice(
                "operating_resolution",
                "Input size",
                ("1024x1024", "2048x2048", "2304x2304"),
                "2304x2304 requires General Use (Dynamic).",
            ),
            Option("refine_foreground", "Refine the colors", True, "fal estimates the foreground colors.", advanced=True),
        ),
        {"output_format": "png"},
        title="fal: BiRefNet",
        network="birefnet",
        model="fal-ai/birefnet/v2",
        license="The network is MIT; the terms of the service apply as well.",
        input_size="1024 to 2304 pixels",
    ),
    Fal(
        "fal-ben2",
        constants={"sync_mode": None},
        max_side=1024,
        title="fal: BEN2",
        model="fal-ai/ben/v2/image",
        license="The network is MIT; the terms of the service apply as well.",
    ),
    Fal(
        "fal-pixelcut",
        constants={"output_format": "rgba"},
        title="fal: Pixelcut",
        model="pixelcut/background-removal",
        license="Pixelcut's terms as a partner of fal; commercial use is permitted.",
        input_size="full size",
    ),
    Fal(
        "fal-ideogram",
        title="fal: Ideogram",
        model="fal-ai/ideogram/remove-background",
        license="Ideogram's terms for its API.",
        license_url="https://ideogram.ai/legal/api-tos",
        input_size="full size",
    ),
    Sam3(
        "fal-sam-3",
        (Option("prompt", "What to keep", "", "A noun in English, such as: red car."),),
        {"apply_mask": False, "output_format": "png"},
        ("masks", 0, "url"),
        title="fal: SAM 3",
        model="fal-ai/sam-3/image",
        license="SAM License of Meta: also commercial use; no military or nuclear use.",
        license_url="https://github.com/facebookresearch/sam3/blob/main/LICENSE",
        supports=("text prompt", "queue", "cancel"),
    ),
)
