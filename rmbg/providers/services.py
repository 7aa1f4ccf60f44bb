"""The services with an ordinary wire format, see `Service`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICES, amount
from rmbg.errors import NotReadyError, PhotoError
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response
from rmbg.providers.base import Option, Status, advanced, choice
from rmbg.providers.remote import EncodedPhoto, PaidCall, open_result, service_info
from rmbg.providers.service import Service
from rmbg.runtime.messages import Message, megabytes, megapixels
from rmbg.settings import Settings

#: End of remove.bg's self-service API as announced. Enterprise contracts and compatible services (RMBG_REMOVEBG_URL) continue.
END_OF_SERVICE = "2026-12-01"


class RemoveBg(Service):
    """remove.bg, or the compatible service at ``RMBG_REMOVEBG_URL``. https://www.remove.bg/api"""

    service = "remove.bg"
    account = "remove.bg/dashboard"
    base = "RMBG_REMOVEBG_URL", "https://api.remove.bg/v1.0"
    path = "/removebg"
    authorization = "X-Api-Key", "{key}"
    code = "errors", 0, "code"
    detail = "errors", 0
    no_subject = ("unknown_foreground",)
    reports_failures = True
    info = service_info(
        "removebg",
        title="remove.bg and compatible",
        model="remove.bg API 1.0",
        license=Message(
            "The service's own terms. remove.bg has announced the end of its self-service API for {date}.", date=END_OF_SERVICE
        ),
        license_url="https://www.remove.bg/tos",
        pixels="The photo is sent to remove.bg, or to the compatible service that is set in its place.",
        seconds=3.0,
        input_size="full size",
        supports=("soft alpha", "charged credits"),
        options=(
            Option(
                "size",
                "Size",
                "full",
                "preview: 0.25 megapixels for a quarter of a credit.",
                choices=("preview", "auto", "full", "50MP"),
            ),
            choice("type", "Subject", ("auto", "person", "product", "car", "animal", "graphic", "transportation", "other"), ""),
            *advanced(choice("channels", "Result", ("rgba", "alpha"), "rgba: cutout; alpha: mask only.")),
            Option("semitransparency", "Translucent glass", True, "Keep glass translucent in photos of cars."),
        ),
        key_name="REMOVEBG_API_KEY",
    )

    #: Limits of remove.bg itself for a photo, in pixels and bytes; compatible services have their own.
    max_pixels, max_bytes = 50_000_000, 22_000_000

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        # The default format may be JPEG, which has no transparency.
        form = {name: str(options[name]) for name in ("size", "type", "channels")} | {"format": "png"}
        form["semitransparency"] = str(options["semitransparency"]).lower()
        return {"form": form, "files": {"image_file": encoded_photo.file}}

    def is_mask(self, call: PaidCall, image: bytes) -> bool:
        return bool(call.options["channels"] == "alpha")

    def cost(self, call: PaidCall, response: Response) -> Cost:
        # The price of a credit depends on the user's plan.
        credits, price = amount(response.headers.get("x-credits-charged")), call.settings.removebg_credit_usd
        if credits is None:
            return Cost(None, "unknown")
        return Cost(credits * PRICES["removebg"].counted, "listed") if price is None else Cost(credits * price, "charged")

    def status(self, settings: Settings) -> Status:
        status = super().status(settings)
        if settings.environ.get("RMBG_REMOVEBG_URL"):
            return status
        notice = Message("remove.bg's self-service API ends {date}", date=END_OF_SERVICE)
        text = "ready; {notice}" if status.usable else "needs a key; {notice}"
        return Status(status.state, Message(text, notice=notice))

    def check_size(self, photo: Photo, encoded_photo: EncodedPhoto, settings: Settings) -> None:
        if settings.environ.get("RMBG_REMOVEBG_URL"):
            return
        if photo.width * photo.height > self.max_pixels:
            raise PhotoError(f"remove.bg accepts photos of at most {megapixels(self.max_pixels)}. Resize it and try again.")
        if len(encoded_photo.data) > self.max_bytes:
            raise PhotoError(f"remove.bg accepts files of at most {megabytes(self.max_bytes)}. Resize the photo and try again.")


class Gigarouter(Service):
    """RMBG 1.4 at gigarouter: announced, but not available yet.

    The service has published neither a URL nor a request format for pictures. This class assumes the OpenAI-compatible API of
    the announcement, and requests the list of models, which is free, before it sends a photo.
    """

    service = "gigarouter"
    account = "gigarouter.ai"
    base = "RMBG_GIGAROUTER_URL", "https://gigarouter.ai/v1"
    path = "/images/edits"
    image = "data", 0
    code = "error", "code"
    detail = "error", "message"
    info = service_info(
        "gigarouter-rmbg-1.4",
        title="gigarouter: RMBG 1.4",
        model="briaai/RMBG-1.4",
        license="BRIA's RMBG 1.4: non-commercial use, or an agreement with BRIA.",
        license_url="https://huggingface.co/briaai/RMBG-1.4",
        pixels="The photo is sent to gigarouter.ai, if the service offers the model.",
        input_size="1024 x 1024",
        supports=("announced", "unverified"),
        key_name="GIGAROUTER_API_KEY",
    )

    def status(self, settings: Settings) -> Status:
        status = super().status(settings)
        text = "announced; availability is checked by each call" if status.usable else "announced, needs a key"
        return Status(status.state, text)

    def before(self, call: PaidCall, base: str, headers: Mapping[str, str]) -> None:
        call.progress("Requesting the models of gigarouter")
        response = call.checked(call.send(Request("GET", f"{base}/models", headers)), self.failure)
        if self.info.model not in [row.get("id") for row in response.objects("data")]:
            raise NotReadyError(f"gigarouter has announced {self.info.model} but does not offer it yet. Use another provider.")

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"form": {"model": self.info.model, "response_format": "b64_json"}, "files": {"image": encoded_photo.file}}

    def cost(self, call: PaidCall, response: Response) -> Cost:
        # The response has no documented field for the cost, and the listed price is an estimate.
        return Cost(None, "unknown")

    def is_mask(self, call: PaidCall, image: bytes) -> bool:
        # It is not documented if the result is a mask or a cutout; a picture without transparency is taken as a mask.
        return open_result(image, self.service, call.settings).alpha is None
