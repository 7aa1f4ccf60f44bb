"""Runware: RMBG 2.0 and RemBG 1.4, one address for both.

Every task has a UUID of our own. Runware takes each only once, so a task whose answer was lost is sent again under the same
UUID: if it had arrived, Runware says so (``conflictTaskUUID``), and the result is asked for.

https://runware.ai/docs/models/bria-rmbg-v2-0, https://runware.ai/docs/models/rembg-v1-4
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from rmbg.errors import InputError, OptionError, ServiceError, printable
from rmbg.fetch import parse
from rmbg.http import Request, Session, address
from rmbg.photo import Photo
from rmbg.prices import PRICES
from rmbg.providers.base import Call, Option, ProviderInfo
from rmbg.providers.remote import Remote, Reply, Sent, download, encoded, from_data_uri
from rmbg.providers.runware_answers import cost_of, read

HOSTS = ("im.runware.ai",)

#: Seconds between two questions after a task: at first, and at most.
POLL, SLOWEST_POLL = 1.0, 4.0

#: How often an answer that does not know the task is taken for one that does not know it yet.
UNKNOWN_POLLS = 3

COMMON = (
    Option(
        "outputType",
        "Result as",
        "choice",
        "base64Data",
        "base64Data and dataURI come in the answer; URL lies on Runware's storage.",
        choices=("base64Data", "dataURI", "URL"),
    ),
    Option("outputQuality", "Quality", "int", 95, "Of lossy formats; PNG has none.", 20, 99),
    Option(
        "deliveryMethod",
        "Delivery",
        "choice",
        "sync",
        "sync: in the answer; async: by asking for it until it is there.",
        choices=("sync", "async"),
    ),
    Option("ttl", "Seconds until the result goes", "int", 3600, "Only for results that are a URL.", 60, 2_592_000),
    Option("includeCost", "Say what it cost", "bool", True, "Otherwise the price list has to do."),
    Option("webhookURL", "Webhook", "text", "", "An address that Runware posts the answer to as well."),
    Option("uploadEndpoint", "Upload to", "text", "", "An address that Runware puts the picture to as well."),
)

BRIA = (Option("preserveAlpha", "Keep the photo's own transparency", "bool", False, "Sends it along, if there is any."),)

REMBG = (
    Option(
        "outputFormat",
        "Format of the mask",
        "choice",
        "PNG",
        "For returnOnlyMask; a cut-out always comes as PNG, as JPG has no transparency.",
        choices=("PNG", "WEBP", "JPG"),
    ),
    Option("alphaMatting", "Alpha matting", "bool", False, "Refine the edge."),
    Option("alphaMattingForegroundThreshold", "Matting: foreground from", "int", 240, "", 1, 255),
    Option("alphaMattingBackgroundThreshold", "Matting: background up to", "int", 10, "", 1, 255),
    Option("alphaMattingErodeSize", "Matting: erosion", "int", 10, "", 1, 255),
    Option("postProcessMask", "Clean the mask", "bool", False),
    Option("returnOnlyMask", "Only the mask", "bool", False, "Runware sends the mask; the cut-out is the same."),
    Option("rgba", "Colour under the cut-out", "text", "255,255,255,0", "Red, green, blue, alpha; alpha below 255."),
)


class Runware(Remote):
    """One of Runware's models."""

    service = "Runware"

    def check(self, options: Mapping[str, Any]) -> None:
        colour(options.get("rgba", "0,0,0,0"))
        for name in ("webhookURL", "uploadEndpoint"):
            try:
                if options[name] and parse(options[name]).scheme != "https":
                    raise InputError
            except InputError:
                raise OptionError(f"{name} must be an https address.") from None

    def prepare(self, photo: Photo, options: Mapping[str, Any]) -> Sent:
        return encoded(photo, keep_alpha=options.get("preserveAlpha", False))

    def ask(self, session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> Reply:
        url = address(call.settings, "RMBG_RUNWARE_URL", "https://api.runware.ai/v1")
        headers = {"Authorization": f"Bearer {session.key}"}
        number = str(uuid.uuid4())
        call.progress(None, "Sending the photo to Runware")
        body = [task(self.info.model, number, sent, options)]
        found = read(
            session, session.send(Request("POST", url, headers, json=body, pays=True, repeatable=True)), number, taken=False
        )
        item = found.item or self._wait(session, url, headers, number, call)
        session.cost = cost_of(item, options, PRICES[self.info.id].counted)
        mask = options.get("returnOnlyMask", False)
        return Reply(
            self._file(session, item, call),
            mask=mask,
            floor=0 if mask else colour(options.get("rgba", "0,0,0,0"))[3],  # no colour lies under a mask
            own_alpha=options.get("preserveAlpha", False),
        )

    def _wait(self, session: Session, url: str, headers: Mapping[str, str], number: str, call: Call) -> Mapping[str, Any]:
        """The item of a task that has been taken, as soon as it is done."""
        pause, unknown = POLL, 0
        while unknown < UNKNOWN_POLLS:
            call.progress(None, "Runware is working")
            session.pause(pause)
            pause = min(pause * 1.5, SLOWEST_POLL)
            body = [{"taskType": "getResponse", "taskUUID": number}]
            found = read(session, session.send(Request("POST", url, headers, json=body)), number, taken=True)
            if found.item is not None:
                return found.item
            unknown = 0 if found.known else unknown + 1
        # Tasks that were answered at once may not be kept for getResponse; the archive has them.
        body = [{"taskType": "getTaskDetails", "taskUUID": number}]
        found = read(session, session.send(Request("POST", url, headers, json=body)), number, taken=True)
        if found.item is None:
            raise ServiceError("Runware took the photo and does not know of it any more.")
        return found.item

    def _file(self, session: Session, item: Mapping[str, Any], call: Call) -> bytes:
        for name in ("imageBase64Data", "imageDataURI"):
            if item.get(name):
                return from_data_uri(session, item[name])
        call.progress(None, "Fetching the picture from Runware")
        return download(session, item["imageURL"], HOSTS, call.settings)


def _info(
    id: str, title: str, model: str, licence: str, page: str, options: tuple[Option, ...], seconds: float
) -> ProviderInfo:
    return ProviderInfo(
        id=id,
        title=title,
        kind="remote",
        model=model,
        licence=licence,
        licence_url=f"https://runware.ai/docs/models/{page}",
        pixels="The photo is sent to runware.ai, which keeps results that are a URL for as long as they are asked for.",
        price_usd=PRICES[id].usd,
        price_basis=PRICES[id].basis,
        price_seen=PRICES[id].seen,
        seconds=seconds,
        input_size="1024 x 1024",
        supports=("soft alpha", "charged cost"),
        options=options,
        key_name="RUNWARE_API_KEY",
    )


class RunwareRmbg2(Runware):
    info = _info(
        "runware-rmbg-2.0",
        "Runware: RMBG 2.0",
        "bria:2@1",
        "BRIA's RMBG 2.0; commercial use is part of the price.",
        "bria-rmbg-v2-0",
        COMMON + BRIA,
        3.0,
    )


class RunwareRembg14(Runware):
    info = _info(
        "runware-rembg-1.4",
        "Runware: RemBG 1.4",
        "runware:109@1",
        "Runware's terms; commercial use is part of the price.",
        "rembg-v1-4",
        COMMON + REMBG,
        2.0,
    )


def task(model: str, number: str, sent: Sent, options: Mapping[str, Any]) -> dict[str, Any]:
    """The task for one photo."""
    wanted: dict[str, Any] = {
        "taskType": "removeBackground",
        "taskUUID": number,
        "model": model,
        "inputs": {"image": sent.data_uri},
        "outputType": options["outputType"],
        # The default is JPG, which has no transparency.
        "outputFormat": options["outputFormat"] if options.get("returnOnlyMask") else "PNG",
        "outputQuality": options["outputQuality"],
        "deliveryMethod": options["deliveryMethod"],
        "includeCost": options["includeCost"],
    }
    if options["outputType"] == "URL":
        wanted["ttl"] = options["ttl"]
    wanted |= {name: options[name] for name in ("webhookURL", "uploadEndpoint") if options[name]}
    if "preserveAlpha" in options:
        wanted["providerSettings"] = {"bria": {"preserveAlpha": options["preserveAlpha"]}}
    if "rgba" in options:
        matting = options["alphaMatting"]
        names = [option.name for option in REMBG if option.name not in ("outputFormat", "rgba")]
        names = [name for name in names if matting or name == "alphaMatting" or not name.startswith("alphaMatting")]
        wanted["settings"] = {name: options[name] for name in names} | {"rgba": list(colour(options["rgba"]))}
    return wanted


def colour(text: str) -> tuple[int, int, int, int]:
    """Four numbers of which the last leaves transparency; OptionError otherwise."""
    try:
        red, green, blue, alpha = (int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        red = green = blue = alpha = -1
    if not all(0 <= value <= 255 for value in (red, green, blue, alpha)):
        raise OptionError(f"rgba is {printable(text, 40)!r}; it must be four numbers from 0 to 255 such as 255,255,255,0.")
    if alpha == 255:
        raise OptionError("rgba with an alpha of 255 leaves no transparency; choose the background afterwards, at no cost.")
    return red, green, blue, alpha
