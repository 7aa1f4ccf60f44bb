"""remove.bg and services with a compatible API, version 1.0.

Requests are not idempotent, so each is sent once.

https://www.remove.bg/api
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmbg.billing import api_keys
from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICES, amount
from rmbg.errors import NoSubjectError, PhotoError, RmbgError, ServiceError
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.providers.base import READY, Option, Status, advanced, choice
from rmbg.providers.remote import EncodedPhoto, PaidCall, ProviderResult, Remote, http_failure, service_info
from rmbg.runtime.messages import Message, megabytes, megapixels
from rmbg.settings import Settings

#: End of remove.bg's self-service API as announced. Enterprise contracts and compatible services (RMBG_REMOVEBG_URL) continue.
END_OF_SERVICE = "2026-12-01"

#: Limits of remove.bg itself for a photo, in pixels and bytes; compatible services have their own.
MAX_PIXELS, MAX_BYTES = 50_000_000, 22_000_000


ERRORS = {
    **dict.fromkeys((401, 403), "remove.bg rejected the API key. Check it in your remove.bg account."),
    402: "The remove.bg account of this API key has no credits left. Buy credits or use another key.",
}


class RemoveBg(Remote):
    """remove.bg, or the compatible service at ``RMBG_REMOVEBG_URL``."""

    service = "remove.bg"
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

    def status(self, settings: Settings) -> Status:
        available = api_keys.available(self.info.key_name, settings)
        if settings.environ.get("RMBG_REMOVEBG_URL"):
            return READY if available else Status("key", Message("needs a key"))
        notice = Message("remove.bg's self-service API ends {date}", date=END_OF_SERVICE)
        if available:
            return Status("ready", Message("ready; {notice}", notice=notice))
        return Status("key", Message("needs a key; {notice}", notice=notice))

    def check_size(self, photo: Photo, encoded_photo: EncodedPhoto, settings: Settings) -> None:
        if settings.environ.get("RMBG_REMOVEBG_URL"):
            return
        if photo.width * photo.height > MAX_PIXELS:
            raise PhotoError(f"remove.bg accepts photos of at most {megapixels(MAX_PIXELS)}. Resize it and try again.")
        if len(encoded_photo.data) > MAX_BYTES:
            raise PhotoError(f"remove.bg accepts files of at most {megabytes(MAX_BYTES)}. Resize the photo and try again.")

    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        base = call.url("RMBG_REMOVEBG_URL", "https://api.remove.bg/v1.0")
        call.progress("Sending the photo to remove.bg")
        response = call.checked(call.send(request(f"{base}/removebg", call.key, encoded_photo, call.options)), failure)
        call.cost = cost_of(response, call.settings)
        return ProviderResult(response.body, mask=call.options["channels"] == "alpha")


def request(url: str, key: str, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> Request:
    """Build the request for one photo."""
    form = {name: str(options[name]) for name in ("size", "type", "channels")}
    # The default format may be JPEG, which has no transparency.
    form |= {"format": "png", "semitransparency": "true" if options["semitransparency"] else "false"}
    headers = {"X-Api-Key": key, "Accept": "image/png"}
    return Request("POST", url, headers, form=form, files={"image_file": encoded_photo.file}, pays=True, free_if_busy=True)


def cost_of(response: Response, settings: Settings) -> Cost:
    """Return the cost of a response: credits charged times the price of a credit, which depends on the user's plan."""
    credits = amount(response.headers.get("x-credits-charged"))
    if credits is None:
        return Cost(None, "unknown")
    if settings.removebg_credit_usd is not None:
        return Cost(credits * settings.removebg_credit_usd, "charged")
    return Cost(credits * PRICES["removebg"].counted, "listed")


def failure(client: ServiceClient, response: Response) -> RmbgError:
    """Return the error of a response.

    Errors of remove.bg itself are not charged. After an error of a gateway in front of it, the charge is unknown.
    """
    first = response.json("errors", 0)
    error = first if isinstance(first, dict) else {}
    code = str(error.get("code") or "")
    if error or 300 <= response.status < 500:
        client.mark_rejected()
    if code == "unknown_foreground":
        return NoSubjectError("remove.bg found no subject in the photo. Try another provider.")
    if "credit" in code:
        return ServiceError(ERRORS[402])
    return http_failure(client, response, f"{error.get('title') or ''} {error.get('detail') or ''}", ERRORS)
