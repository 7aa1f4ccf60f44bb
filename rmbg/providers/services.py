"""The services with an ordinary wire format, see `Service`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.quote import amount
from rmbg.errors import NotReadyError, PhotoError
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response
from rmbg.providers.base import Option, Status, advanced, choice
from rmbg.providers.remote import EncodedPhoto, PaidCall, open_result, service_info
from rmbg.providers.service import Jobs, Service
from rmbg.runtime.messages import Message, megabytes, megapixels
from rmbg.settings import Settings

#: End of remove.bg's self-service API as announced. Enterprise contracts and compatible services (RMBG_REMOVEBG_URL) continue.
END_OF_SERVICE = "2026-12-01"


#: License of services whose terms could not be read.
UNVERIFIED = "The service's own terms, which have not been verified."


class RemoveBgProtocol(Service):
    """Service with the API of remove.bg, version 1.0. https://www.remove.bg/api"""

    path = "/removebg"
    authorization = "X-Api-Key", "{key}"
    code = "errors", 0, "code"
    details = (("errors", 0), ("error", "message"), ("error",))
    no_subject = ("unknown_foreground",)
    reports_failures = True

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        form = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
        # The default size is a preview, and the default format may be JPEG, which has no transparency.
        return {"form": {"size": "full", **form, "format": "png"}, "files": {"image_file": encoded_photo.file}}

    def is_mask(self, call: PaidCall, image: bytes) -> bool:
        return bool(call.options["channels"] == "alpha")


CHANNELS = advanced(choice("channels", "Result", ("rgba", "alpha"), "rgba: cutout; alpha: mask only."))


class RemoveBg(RemoveBgProtocol):
    """remove.bg, or the compatible service at ``RMBG_REMOVEBG_URL``."""

    service = "remove.bg"
    account = "remove.bg/dashboard"
    base = "RMBG_REMOVEBG_URL", "https://api.remove.bg/v1.0"
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
            *CHANNELS,
            Option("semitransparency", "Translucent glass", True, "Keep glass translucent in photos of cars."),
        ),
        key_name="REMOVEBG_API_KEY",
    )

    #: Limits of remove.bg itself for a photo, in pixels and bytes; compatible services have their own.
    max_pixels, max_bytes = 50_000_000, 22_000_000

    def cost(self, call: PaidCall, response: Response) -> Cost:
        # The price of a credit depends on the user's plan.
        credits = amount(response.headers.get("x-credits-charged"))
        if credits is None:
            return Cost(None, "unknown")
        return Cost(credits * call.price.counted, "listed" if call.price is self.info.price else "charged")

    def status(self, settings: Settings) -> Status:
        status = super().status(settings)
        if settings.environ.get("RMBG_REMOVEBG_URL"):
            return status
        ended = date.today().isoformat() >= END_OF_SERVICE
        text = "remove.bg's self-service API ended {date}" if ended else "remove.bg's self-service API ends {date}"
        notice = Message(text, date=END_OF_SERVICE)
        text = "ready; {notice}" if status.usable else "needs a key; {notice}"
        return Status(status.state, Message(text, notice=notice))

    def check_size(self, photo: Photo, encoded_photo: EncodedPhoto, settings: Settings) -> None:
        if settings.environ.get("RMBG_REMOVEBG_URL"):
            return
        if photo.width * photo.height > self.max_pixels:
            raise PhotoError(f"remove.bg accepts photos of at most {megapixels(self.max_pixels)}. Resize it and try again.")
        if len(encoded_photo.data) > self.max_bytes:
            raise PhotoError(f"remove.bg accepts files of at most {megabytes(self.max_bytes)}. Resize the photo and try again.")


class Pixian(RemoveBgProtocol):
    """Pixian's API in the format of remove.bg. https://pixian.ai/api/migrate

    Type and semi-transparency have no effect there. The price of a credit and the statuses of errors could not be found.
    """

    service = "Pixian"
    account = "pixian.ai/api"
    base = "RMBG_PIXIAN_URL", "https://api.pixian.ai/v1.0"
    info = service_info(
        "pixian",
        title="Pixian",
        model="Pixian, API of remove.bg",
        license=UNVERIFIED,
        license_url="https://pixian.ai/api",
        pixels="The photo is sent to pixian.ai. It is not known how long it is stored.",
        seconds=3.0,
        input_size="full size",
        supports=("soft alpha", "charged credits"),
        options=(Option("test", "Test", False, "Free, with a watermark."), *CHANNELS),
        key_name="PIXIAN_API_KEY",
    )


class Photoroom(Service):
    """Photoroom's Remove Background API. https://docs.photoroom.com/remove-background-api-basic-plan

    Errors are not charged. A key with the prefix ``sandbox_`` is free, and its results have a watermark.
    """

    service = "Photoroom"
    account = "photoroom.com/api"
    base = "RMBG_PHOTOROOM_URL", "https://sdk.photoroom.com/v1"
    path = "/segment"
    authorization = "x-api-key", "{key}"
    code = ("type",)
    details = (("detail",), ("error", "message"))
    reports_failures = True
    # The response to a key without credits is that to an invalid key.
    texts = dict.fromkeys((401, 403), "{service} rejected the API key, or its account has no credits. Check both at {account}.")
    info = service_info(
        "photoroom",
        title="Photoroom",
        model="Photoroom Remove Background",
        license="Photoroom's terms, which do not permit to train models on the results.",
        license_url="https://www.photoroom.com/legal/terms-and-conditions",
        pixels="The photo is sent to photoroom.com, which processes it in the USA and does not store it.",
        seconds=2.0,
        input_size="full size",
        supports=("soft alpha",),
        options=(
            choice("size", "Size", ("full", "hd", "medium", "preview"), "preview: 0.25 megapixels for a quarter of the price."),
            Option("despill", "Remove green light", False, "For photos in front of a green screen."),
            *CHANNELS,
        ),
        key_name="PHOTOROOM_API_KEY",
        network="own",
    )

    body = RemoveBgProtocol.body
    is_mask = RemoveBgProtocol.is_mask


class Recraft(Service):
    """Recraft's background removal. https://www.recraft.ai/docs/api-reference/tools/remove-background"""

    service = "Recraft"
    account = "recraft.ai"
    base = "RMBG_RECRAFT_URL", "https://external.api.recraft.ai/v1"
    path = "/images/removeBackground"
    image = ("image",)
    max_side = 4000  # the limits are 16 megapixels and 4096 pixels
    info = service_info(
        "recraft",
        title="Recraft",
        model="Recraft Remove Background",
        license=UNVERIFIED,
        license_url="https://www.recraft.ai/docs/api-reference/tools/remove-background",
        pixels="The photo is sent to recraft.ai. It is not known how long it is stored.",
        seconds=4.0,
        input_size="full size",
        supports=("soft alpha",),
        key_name="RECRAFT_API_KEY",
    )

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"form": {"response_format": "b64_json"}, "files": {"file": encoded_photo.file}}


class WithoutBg(Service):
    """withoutBG, which returns the matte at up to 1024 pixels. https://withoutbg.com/documentation/api/alpha-matte-base64

    Only results are charged.
    """

    service = "withoutBG"
    account = "withoutbg.com"
    base = "RMBG_WITHOUTBG_URL", "https://api.withoutbg.com/v1.0"
    path = "/alpha-channel-base64"
    authorization = "X-API-Key", "{key}"
    image = ("alpha_base64",)
    mask = True
    reports_failures = True
    max_side = 1024
    info = service_info(
        "withoutbg",
        title="withoutBG",
        model="withoutBG Pro",
        license=UNVERIFIED,
        license_url="https://withoutbg.com/documentation/api/api-reference",
        pixels="A copy of the photo of at most 1024 pixels is sent to withoutbg.com. It is not known how long it is stored.",
        seconds=3.0,
        input_size="1024 pixels",
        supports=("soft alpha",),
        key_name="WITHOUTBG_API_KEY",
    )

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"json": {"image_base64": encoded_photo.base64}}


class Bria(Service):
    """BRIA's own API, version 2. https://docs.bria.ai

    Polls count towards the rate limit of 10 requests a minute of free accounts and 60 of others, and a job cannot be cancelled.
    """

    service = "BRIA"
    account = "bria.ai"
    resumes = "by handle"
    base = "RMBG_BRIA_URL", "https://engine.prod.bria-api.com/v2"
    path = "/image/edit/remove_background"
    authorization = "api_token", "{key}"
    image = "result", "image_url"
    code = "error", "code"
    details = (("error", "message"), ("message",))
    jobs = Jobs(url=("status_url",), state=("status",), done="COMPLETED", running=("IN_PROGRESS",), interval=2.0)
    alpha_option = "preserve_alpha"
    info = service_info(
        "bria-rmbg-2.0",
        title="BRIA: RMBG 2.0",
        model="image/edit/remove_background",
        license="BRIA's RMBG 2.0, trained on licensed pictures; the price includes commercial use.",
        license_url="https://bria.ai/terms-of-use",
        pixels="The photo is sent to bria.ai, which stores the result for 3 days.",
        seconds=4.0,
        input_size="1024 x 1024",
        supports=("soft alpha",),
        options=(
            Option("preserve_alpha", "Keep the photo's own transparency", False, "Send the photo with its own alpha."),
            *advanced(
                Option("sync", "Result in the response", True, "Otherwise the photo is a job, which can be resumed."),
                Option("visual_input_content_moderation", "Moderate the photo", False),
                Option("visual_output_content_moderation", "Moderate the result", False),
            ),
        ),
        key_name="BRIA_API_TOKEN",
        network="rmbg-2.0",
    )

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"json": {"image": encoded_photo.base64, **options}}


class Replicate(Service):
    """BiRefNet at Replicate. https://replicate.com/docs/topics/predictions/lifecycle

    Seconds of a GPU are charged, at a price that depends on the hardware and is not reported. Photos within the request are
    limited to a megabyte.
    """

    service = "Replicate"
    account = "replicate.com/account"
    resumes = "by handle"
    base = "RMBG_REPLICATE_URL", "https://api.replicate.com/v1"
    path = "/predictions"
    image = ("output",)
    details = (("detail",), ("error",))
    jobs = Jobs(("urls", "get"), ("status",), "succeeded", ("starting", "processing"), cancel=("urls", "cancel"))
    max_side, lossless_pixels = 1024, 0
    info = service_info(
        "replicate-birefnet",
        title="Replicate: BiRefNet",
        model="men1scus/birefnet",
        license="The network is MIT; its publisher at Replicate is a third party.",
        license_url="https://replicate.com/men1scus/birefnet",
        pixels="A copy of the photo of at most 1024 pixels is sent to replicate.com, which deletes it after an hour.",
        seconds=5.0,
        input_size="1024 x 1024",
        supports=("soft alpha", "queue", "cancel"),
        key_name="REPLICATE_API_TOKEN",
    )

    #: Version of the model whose input format is known.
    version = "f3e7ae8430032db9e9923c65f95ddf9f5b7ded8b7780163f18d1db67215dbd6d"

    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {"image": encoded_photo.data_uri, "resolution": "1024x1024"}
        return {"json": {"version": self.version, "input": arguments}}


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
    details = (("error", "message"),)
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


SERVICES = (Bria(), Photoroom(), Pixian(), Recraft(), WithoutBg(), Replicate(), RemoveBg(), Gigarouter())
