"""Runware: RMBG 2.0 and RemBG 1.4, at the same URL.

A response may hold data and errors of several tasks.

https://runware.ai/docs/platform/errors, https://runware.ai/docs/platform/task-polling
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICES, amount
from rmbg.errors import InputError, OptionError, ServiceError, printable
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.net.download import parse
from rmbg.providers.base import Option, advanced, choice
from rmbg.providers.remote import (
    ERROR_TEXTS,
    EncodedPhoto,
    PaidCall,
    ProviderResult,
    Remote,
    download,
    encode_photo,
    from_data_uri,
    service_info,
)
from rmbg.runtime.messages import Message


@dataclass(frozen=True)
class TaskState:
    """State of a task.

    Attributes
    ----------
    item : mapping or None
        Result; None until the task is complete.
    known : bool
        False if the response does not mention the task.
    conflict : bool
        True if a task with this UUID had been accepted before.
    """

    item: Mapping[str, Any] | None = None
    known: bool = True
    conflict: bool = False


def read_response(client: ServiceClient, response: Response, task_id: str, *, accepted: bool) -> TaskState:
    """Read the state of task `task_id` from a response.

    A response of any HTTP status may have both data and errors. Items are identified by their UUID, as their type differs
    between the documentation and its examples.

    Parameters
    ----------
    client : ServiceClient
    response : Response
    task_id : str
    accepted : bool
        True if an earlier response has shown that Runware accepted the task.

    Raises
    ------
    ServiceError
        If the task failed or the response is invalid. ``client.cost`` is None if the task cannot have been charged.
    """
    body = response.json()
    if not isinstance(body, dict):
        raise failure(client, response.status, {}, accepted=accepted)
    if isinstance(body.get("error"), dict):  # some failures have a single error instead of a list
        raise failure(client, response.status, body["error"], accepted=accepted)
    state = outcome(client, body, response.status, task_id, accepted=accepted)
    if not response.ok and state.item is None and not state.conflict:
        raise failure(client, response.status, {}, accepted=accepted)
    return state


def outcome(client: ServiceClient, body: Mapping[str, Any], status: int, task_id: str, *, accepted: bool) -> TaskState:
    """Return the state of task `task_id` from the data and errors of a response body."""
    errors = [error for error in _items(body, "errors") if error.get("taskUUID") in (task_id, None)]
    data = [item for item in _items(body, "data") if item.get("taskUUID") == task_id]
    for item in data:  # before the errors, as an existing result is paid for
        if isinstance(item.get("response"), dict):  # an archive item, which contains the original response
            return outcome(client, item["response"], status, task_id, accepted=accepted)
        if any(item.get(name) for name in ("imageURL", "imageBase64Data", "imageDataURI")):
            return TaskState(item)
    if any(error.get("code") == "conflictTaskUUID" for error in errors):
        return TaskState(conflict=True)
    if errors:
        raise failure(client, status, errors[0], accepted=accepted)
    return TaskState(known=bool(data))


def failure(client: ServiceClient, status: int, error: Mapping[str, Any], *, accepted: bool) -> ServiceError:
    """Return the error of a task, and mark the call as rejected if it cannot have been charged.

    Error codes are an open list, so their prefixes and the HTTP status are evaluated. Rejected requests are not charged. It is
    not documented if a task that failed later is charged.
    """
    code = str(error.get("code") or "")
    lower = code.lower()
    detail_text = client.error_detail(error.get("message"))
    rejected = status in (400, 401, 402, 403, 404, 405, 413, 422, 429) or 300 <= status < 400
    if not accepted and (rejected or lower.startswith(("invalid", "missing", "unsupported"))):
        client.mark_rejected()
    if "apikey" in lower or status in (401, 403):
        return ServiceError("Runware rejected the API key. Check it at my.runware.ai.")
    if status == 402 or any(word in lower for word in ("credit", "balance", "quota")):
        return ServiceError("The Runware account of this API key has no credits left. Add credits at my.runware.ai.")
    if status == 429 or "ratelimit" in lower:
        return ServiceError("The rate limit of Runware for this API key is exceeded. Try again later.")
    if lower.startswith(("invalid", "missing", "unsupported")) or status in (400, 413, 422):
        return ServiceError(Message(ERROR_TEXTS[4], service="Runware", detail=detail_text))
    if 300 <= status < 400:
        return ServiceError(Message(ERROR_TEXTS[3], service="Runware"))
    name = client.sanitize(code, 40) or f"HTTP {status}"
    if status == 200 and not code:
        return ServiceError("The response of Runware has no result.")
    return ServiceError(f"Runware failed ({name}){detail_text}")


def cost_of(item: Mapping[str, Any], options: Mapping[str, Any], listed: Decimal) -> Cost:
    """Return the cost of a result: as reported, unknown if the requested report is missing, otherwise the listed price."""
    cost = amount(item.get("cost"))
    if cost is not None:
        return Cost(cost, "charged")
    return Cost(None, "unknown") if options["includeCost"] else Cost(listed, "listed")


def _items(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = body.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


HOSTS = ("im.runware.ai",)

#: First and longest interval between two polls of a task, in seconds.
POLL_INTERVAL, MAX_POLL_INTERVAL = 1.0, 4.0

#: Consecutive polls that may report an unknown task, which may not be registered yet.
MAX_UNKNOWN_POLLS = 3

COMMON = advanced(
    choice(
        "outputType",
        "Result type",
        ("base64Data", "dataURI", "URL"),
        "base64Data and dataURI: in the response; URL: in Runware's storage.",
    ),
    Option("outputQuality", "Quality", 95, "Quality of lossy formats; without effect on PNG.", 20, 99),
    choice("deliveryMethod", "Delivery", ("sync", "async"), "sync: in the response; async: by polling."),
    Option("ttl", "Expiration (seconds)", 3600, "Time after which Runware deletes results of type URL.", 60, 2_592_000),
    Option("includeCost", "Report the cost", True, "Otherwise the listed price is used."),
    Option("webhookURL", "Webhook", "", "URL to which Runware also posts the response."),
    Option("uploadEndpoint", "Upload to", "", "URL to which Runware also uploads the result."),
)

BRIA = (Option("preserveAlpha", "Keep the photo's own transparency", False, "Send the photo with its own alpha."),)

REMBG = (
    *advanced(
        choice(
            "outputFormat",
            "Format of the mask",
            ("PNG", "WEBP", "JPG"),
            "Used with returnOnlyMask; cutouts are always PNG, as JPG has no transparency.",
        )
    ),
    Option("alphaMatting", "Alpha matting", False, "Refine the edge."),
    Option("alphaMattingForegroundThreshold", "Matting: foreground threshold", 240, "", 1, 255, advanced=True),
    Option("alphaMattingBackgroundThreshold", "Matting: background threshold", 10, "", 1, 255, advanced=True),
    Option("alphaMattingErodeSize", "Matting: erosion", 10, "", 1, 255, advanced=True),
    Option("postProcessMask", "Clean the mask", False),
    Option("returnOnlyMask", "Mask only", False, "Runware returns the mask; the cutout is the same.", advanced=True),
    Option("rgba", "Background color", "255,255,255,0", "Red, green, blue, alpha; alpha below 255.", advanced=True),
)


class Runware(Remote):
    """Model at Runware; `fields` are those of ``ProviderInfo`` that differ between the models."""

    service = "Runware"
    resumes = "by id"

    def __init__(self, id: str, options: tuple[Option, ...], **fields: Any) -> None:
        self.info = service_info(
            id,
            pixels="The photo is sent to runware.ai. Results of type URL are stored there until they expire.",
            input_size="1024 x 1024",
            supports=("soft alpha", "charged cost"),
            options=COMMON + options,
            key_name="RUNWARE_API_KEY",
            **fields,
        )

    def check(self, options: Mapping[str, Any]) -> None:
        color(options.get("rgba", "0,0,0,0"))
        for name in ("webhookURL", "uploadEndpoint"):
            try:
                if options[name] and parse(options[name]).scheme != "https":
                    raise InputError
            except InputError:
                raise OptionError(f"{name} is not an https URL. Enter one that begins with https://.") from None

    def prepare(self, photo: Photo, options: Mapping[str, Any]) -> EncodedPhoto:
        return encode_photo(photo, keep_alpha=options.get("preserveAlpha", False))

    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        url = call.url("RMBG_RUNWARE_URL", "https://api.runware.ai/v1")
        headers, options = {"Authorization": f"Bearer {call.key}"}, call.options
        task_id = call.context.job.id if call.context.job else str(uuid.uuid4())
        call.progress("Sending the photo to Runware")
        body = [task(self.info.model, task_id, encoded_photo, options)]
        state = read_response(
            call, call.send(Request("POST", url, headers, json=body, pays=True, repeatable=True)), task_id, accepted=False
        )
        item = state.item or self._poll(call, url, headers, task_id)
        call.cost = cost_of(item, options, PRICES[self.info.id].counted)
        mask = options.get("returnOnlyMask", False)
        return ProviderResult(
            self._result_file(call, item),
            mask=mask,
            floor=0 if mask else color(options.get("rgba", "0,0,0,0"))[3],  # a mask has no background color
            own_alpha=options.get("preserveAlpha", False),
        )

    def _poll(self, call: PaidCall, url: str, headers: Mapping[str, str], task_id: str) -> Mapping[str, Any]:
        """Poll an accepted task until it is complete and return its item."""
        interval, unknown = POLL_INTERVAL, 0
        while unknown < MAX_UNKNOWN_POLLS:
            call.progress("Runware is processing the photo")
            call.pause(interval)
            interval = min(interval * 1.5, MAX_POLL_INTERVAL)
            body = [{"taskType": "getResponse", "taskUUID": task_id}]
            state = read_response(call, call.fetch_result(Request("POST", url, headers, json=body)), task_id, accepted=True)
            if state.item is not None:
                return state.item
            unknown = 0 if state.known else unknown + 1
        # getResponse may not cover tasks that were completed synchronously; the archive does.
        body = [{"taskType": "getTaskDetails", "taskUUID": task_id}]
        state = read_response(call, call.fetch_result(Request("POST", url, headers, json=body)), task_id, accepted=True)
        if state.item is None:
            raise ServiceError("Runware accepted the photo but no longer has the task.")
        return state.item

    def _result_file(self, call: PaidCall, item: Mapping[str, Any]) -> bytes:
        """Return the image file of an item, which is inline or at a URL."""
        for name in ("imageBase64Data", "imageDataURI"):
            if item.get(name):
                return from_data_uri(call, item[name])
        call.progress("Downloading the result from Runware")
        return download(call, item["imageURL"], HOSTS)


def task(model: str, task_id: str, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
    """Build the task for one photo."""
    parameters: dict[str, Any] = {
        "taskType": "removeBackground",
        "taskUUID": task_id,
        "model": model,
        "inputs": {"image": encoded_photo.data_uri},
        "outputType": options["outputType"],
        # The default format is JPG, which has no transparency.
        "outputFormat": options["outputFormat"] if options.get("returnOnlyMask") else "PNG",
        "outputQuality": options["outputQuality"],
        "deliveryMethod": options["deliveryMethod"],
        "includeCost": options["includeCost"],
    }
    if options["outputType"] == "URL":
        parameters["ttl"] = options["ttl"]
    parameters |= {name: options[name] for name in ("webhookURL", "uploadEndpoint") if options[name]}
    if "preserveAlpha" in options:
        parameters["providerSettings"] = {"bria": {"preserveAlpha": options["preserveAlpha"]}}
    if "rgba" in options:
        matting = options["alphaMatting"]
        names = [option.name for option in REMBG if option.name not in ("outputFormat", "rgba")]
        names = [name for name in names if matting or name == "alphaMatting" or not name.startswith("alphaMatting")]
        parameters["settings"] = {name: options[name] for name in names} | {"rgba": list(color(options["rgba"]))}
    return parameters


def color(text: str) -> tuple[int, int, int, int]:
    """Parse a color of four numbers with an alpha below 255.

    Raises
    ------
    OptionError
        If the text is not such a color.
    """
    try:
        red, green, blue, alpha = (int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        red = green = blue = alpha = -1
    if not all(0 <= value <= 255 for value in (red, green, blue, alpha)):
        raise OptionError(f"rgba is {printable(text, 40)!r}; it must be four numbers from 0 to 255 such as 255,255,255,0.")
    if alpha == 255:
        raise OptionError(
            "rgba with an alpha of 255 leaves no transparency. Use a lower alpha, and choose the background afterwards."
        )
    return red, green, blue, alpha


RUNWARE_RMBG_2 = Runware(
    "runware-rmbg-2.0",
    BRIA,
    title="Runware: RMBG 2.0",
    model="bria:2@1",
    license="BRIA's RMBG 2.0; the price includes commercial use.",
    license_url="https://runware.ai/docs/models/bria-rmbg-v2-0",
    seconds=3.0,
)
RUNWARE_REMBG_1_4 = Runware(
    "runware-rembg-1.4",
    REMBG,
    title="Runware: RemBG 1.4",
    model="runware:109@1",
    license="Runware's terms; the price includes commercial use.",
    license_url="https://runware.ai/docs/models/rembg-v1-4",
    seconds=2.0,
)
