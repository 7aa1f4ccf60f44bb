"""gigarouter: RMBG 1.4, announced but not available yet.

The service has published neither a URL nor a request format for pictures. This module assumes the OpenAI-compatible API of
the announcement, and requests the list of models, which is free, before it sends a photo.
"""

from __future__ import annotations

from collections.abc import Mapping

from rmbg.billing.cost import Cost
from rmbg.errors import NotReadyError, ServiceError
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.providers.base import Status
from rmbg.providers.remote import (
    EncodedPhoto,
    PaidCall,
    ProviderResult,
    Remote,
    download,
    from_data_uri,
    http_failure,
    open_result,
    service_info,
)
from rmbg.settings import Settings

MODEL = "briaai/RMBG-1.4"

ERRORS = {
    **dict.fromkeys((401, 403), "gigarouter rejected the API key. Check it in your gigarouter account."),
    402: "The gigarouter account of this API key has no credit left. Add credit or use another key.",
    404: f"gigarouter does not offer {MODEL} at this URL{{detail}}",
}


class Gigarouter(Remote):
    """RMBG 1.4 at gigarouter."""

    service = "gigarouter"
    info = service_info(
        "gigarouter-rmbg-1.4",
        title="gigarouter: RMBG 1.4",
        model=MODEL,
        license="BRIA's RMBG 1.4: non-commercial use, or an agreement with BRIA.",
        license_url="https://huggingface.co/briaai/RMBG-1.4",
        pixels="The photo is sent to gigarouter.ai, if the service offers the model.",
        input_size="1024 x 1024",
        supports=("announced", "unverified"),
        key_name="GIGAROUTER_API_KEY",
    )

    def status(self, settings: Settings) -> Status:
        status = super().status(settings)
        return Status(
            status.state, "announced; availability is checked by each call" if status.usable else "announced, needs a key"
        )

    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        base = call.url("RMBG_GIGAROUTER_URL", "https://gigarouter.ai/v1")
        headers = {"Authorization": f"Bearer {call.key}"}
        call.progress("Requesting the models of gigarouter")
        response = call.checked(call.send(Request("GET", f"{base}/models", headers)), failure)
        if MODEL not in [row.get("id") for row in response.objects("data")]:
            raise NotReadyError(f"gigarouter has announced {MODEL} but does not offer it yet. Use another provider.")
        call.progress("Sending the photo to gigarouter")
        response = call.checked(call.send(request(base, headers, encoded_photo)), failure)
        # The response has no documented field for the cost, and the listed price is an estimate.
        call.cost = Cost(None, "unknown")
        image = _result_file(call, response)
        # It is not documented if the result is a mask or a cutout; a picture without transparency is taken as a mask.
        return ProviderResult(image, mask=open_result(image, self.service, call.settings).alpha is None)


def request(base: str, headers: Mapping[str, str], encoded_photo: EncodedPhoto) -> Request:
    """Build the request for one photo in the format of OpenAI's image edits."""
    form = {"model": MODEL, "response_format": "b64_json"}
    return Request("POST", f"{base}/images/edits", headers, form=form, files={"image": encoded_photo.file}, pays=True)


def _result_file(call: PaidCall, response: Response) -> bytes:
    """Return the image file of a response, which is inline or at a URL."""
    first = next(iter(response.objects("data")), {})
    if first.get("b64_json"):
        return from_data_uri(call, first["b64_json"])
    if first.get("url"):
        return download(call, first["url"], ("gigarouter.ai", ".gigarouter.ai"))
    raise ServiceError("The response of gigarouter has no result.")


def failure(client: ServiceClient, response: Response) -> ServiceError:
    """Return the error of a response."""
    if 300 <= response.status < 500:
        client.mark_rejected()
    return http_failure(client, response, response.json("error", "message"), ERRORS)
