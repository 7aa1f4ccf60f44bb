"""Runware: its models for background removal, at the same URL.

A response may hold data and errors of several tasks.

https://runware.ai/docs/platform/errors, https://runware.ai/docs/platform/task-polling
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.quote import amount, quote
from rmbg.errors import InputError, OptionError, ServiceError, printable
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.net.download import parse
from rmbg.providers.base import Option, advanced, choice
from rmbg.providers.remote import (
    INVALID,
    EncodedPhoto,
    PaidCall,
    ProviderResult,
    Remote,
    encode_photo,
    http_failure,
    picture,
    service_info,
)
from rmbg.runtime.messages import Message


def read_response(
    client: ServiceClient, response: Response, task_id: str, *, accepted: bool, body: Any = None
) -> tuple[Mapping[str, Any] | None, bool]:
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
    body : Any
        Body of the original response, if `response` is an item of the archive.

    Returns
    -------
    item : mapping or None
        Result; None until the task is complete.
    known : bool
        False if the response does not mention the task.

    Raises
    ------
    ServiceError
        If the task failed or the response is invalid. ``client.cost`` is None if the task cannot have been charged.
    """
    body = response.json() if body is None else body
    if not isinstance(body, dict):
        raise failure(client, response, {}, accepted=accepted)
    data = [item for item in _items(body, "data") if item.get("taskUUID") == task_id]
    for item in data:  # before the errors, as an existing result is paid for
        if isinstance(item.get("response"), dict):  # an archive item, which contains the original response
            return read_response(client, response, task_id, accepted=accepted, body=item["response"])
        if any(item.get(name) for name in PICTURES):
            return item, True
    errors = [error for error in _items(body, "errors") if error.get("taskUUID") in (task_id, None)]
    if isinstance(body.get("error"), dict):  # some failures have a single error instead of a list
        errors.insert(0, body["error"])
    if any(error.get("code") == "conflictTaskUUID" for error in errors):  # the task had been accepted before
        return None, True
    if errors or not response.ok:
        raise failure(client, response, errors[0] if errors else {}, accepted=accepted)
    return None, bool(data)


def failure(client: ServiceClient, response: Response, error: Mapping[str, Any], *, accepted: bool) -> ServiceError:
    """Return the error of a task, and mark the call as rejected if it cannot have been charged.

    Error codes are an open list, so their prefixes and the HTTP status are evaluated. Rejected requests are not charged. It is
    not documented if a task that failed later is charged.
    """
    code = str(error.get("code") or "")
    if not accepted and (300 <= response.status < 500 or code.lower().startswith(INVALID)):
        client.mark_rejected()
    if response.status == 200 and not code:
        return ServiceError(Message("The response of {service} has no picture.", service="Runware"))
    return http_failure(client, response, error.get("message"), code=code)


def cost_of(item: Mapping[str, Any], options: Mapping[str, Any], quoted: Cost) -> Cost:
    """Return the cost of a result: as reported, unknown if the requested report is missing, otherwise the quoted one."""
    cost = amount(item.get("cost"))
    if cost is not None:
        return Cost(cost, "charged")
    return Cost(None, "unknown") if options["includeCost"] else quoted


def _items(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = body.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


#: Fields of an item with its picture.
PICTURES = ("imageBase64Data", "imageDataURI", "imageURL")

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


#: Models by variant of BiRefNet. https://runware.ai/docs/models
VARIANTS = {
    "matting": "runware:112@9",
    "general": "runware:112@5",
    "portrait": "runware:112@10",
    "massive": "runware:112@8",
    "base": "runware:112@1",
    "dis": "runware:112@3",
    "cod": "runware:112@2",
    "hrsod": "runware:112@7",
    "512": "runware:112@6",
}

BIREFNET = (
    choice(
        "variant",
        "Variant",
        tuple(VARIANTS),
        "matting: soft edges; general: products; portrait: people; massive: many scales; cod: camouflage; 512: small and fast. "
        "Runware lists the prices of the first four.",
    ),
)


class Runware(Remote):
    """Model at Runware; `fields` are those of ``ProviderInfo`` that differ between the models."""

    service = "Runware"
    account = "my.runware.ai"
    resumes = "by id"

    def __init__(self, id: str, options: tuple[Option, ...] = (), **fields: Any) -> None:
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
        call.progress(Message("Sending the photo to {service}", service="Runware"))
        body = [
            task(VARIANTS[options["variant"]] if "variant" in options else self.info.model, task_id, encoded_photo, options)
        ]
        response = call.send(Request("POST", url, headers, json=body, pays=True, repeatable=True))
        item, _ = read_response(call, response, task_id, accepted=False)
        item = item or self._poll(call, url, headers, task_id)
        call.cost = cost_of(item, options, quote(self.info, options, call.settings).cost)
        mask = options.get("returnOnlyMask", False)
        return ProviderResult(
            picture(call, next(item[name] for name in PICTURES if item.get(name))),
            mask=mask,
            floor=0 if mask else color(options.get("rgba", "0,0,0,0"))[3],  # a mask has no background color
            own_alpha=options.get("preserveAlpha", False),
        )

    def _poll(self, call: PaidCall, url: str, headers: Mapping[str, str], task_id: str) -> Mapping[str, Any]:
        """Poll an accepted task until it is complete and return its item."""
        interval, unknown = POLL_INTERVAL, 0

        def state(kind: str) -> tuple[Mapping[str, Any] | None, bool]:
            body = [{"taskType": kind, "taskUUID": task_id}]
            response = call.fetch_result(Request("POST", url, headers, json=body))
            return read_response(call, response, task_id, accepted=True)

        while unknown < MAX_UNKNOWN_POLLS:
            call.progress(Message("{service} is processing the photo", service="Runware"))
            call.pause(interval)
            interval = min(interval * 1.5, MAX_POLL_INTERVAL)
            item, known = state("getResponse")
            if item is not None:
                return item
            unknown = 0 if known else unknown + 1
        # getResponse may not cover tasks that were completed synchronously; the archive does.
        item, _ = state("getTaskDetails")
        if item is None:
            raise ServiceError("Runware accepted the photo but no longer has the task.")
        return item


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


RUNWARE = (
    Runware(
        "runware-birefnet",
        BIREFNET,
        title="Runware: BiRefNet",
        network="birefnet",
        model="runware:112",
        license="The network is MIT; the terms of the service apply as well.",
        license_url="https://runware.ai/docs/models/birefnet-matting",
        seconds=5.0,
    ),
    Runware(
        "runware-rmbg-2.0",
        BRIA,
        title="Runware: RMBG 2.0",
        network="rmbg-2.0",
        model="bria:2@1",
        license="BRIA's RMBG 2.0; the price includes commercial use.",
        license_url="https://runware.ai/docs/models/bria-rmbg-v2-0",
        seconds=3.0,
    ),
    Runware(
        "runware-rembg-1.4",
        REMBG,
        title="Runware: RemBG 1.4",
        network="rmbg-1.4",  # assumed from the name: Runware does not publish the network
        model="runware:109@1",
        license="Runware's terms; the price includes commercial use.",
        license_url="https://runware.ai/docs/models/rembg-v1-4",
        seconds=2.0,
    ),
    Runware(
        "runware-ideogram",
        title="Runware: Ideogram",
        model="ideogram:remove-background@0",
        license="Ideogram's terms for its API.",
        license_url="https://ideogram.ai/legal/api-tos",
        seconds=5.0,
    ),
)
