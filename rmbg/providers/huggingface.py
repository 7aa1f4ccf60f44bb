"""Hugging Face Inference Providers: RMBG 2.0, run by fal and billed by Hugging Face.

The hub returns the endpoint of the model at fal. The router of Hugging Face forwards requests to fal's job queue and adds its
own authorization; URLs in responses are those of fal, so only their paths are used.

https://huggingface.co/docs/inference-providers
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from rmbg.errors import NotReadyError, ServiceError
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.providers import fal
from rmbg.providers.remote import EncodedPhoto, PaidCall, ProviderResult, Remote, http_failure, picture, service_info
from rmbg.runtime.messages import Message

MODEL = "briaai/RMBG-2.0"
HUB, ROUTER = "https://huggingface.co", "https://router.huggingface.co"

#: Query of requests to fal's job queue.
QUEUE = "?_subdomain=queue"

ERRORS = {
    **dict.fromkeys((400, 413, 422), "Hugging Face rejected the photo{detail}"),
    **dict.fromkeys((401, 403), "Hugging Face rejected the token. It needs the permission to call Inference Providers."),
    402: "The Hugging Face account has no credits left for this month. Add credits or use another provider.",
    429: "The rate limit of Hugging Face for this account is exceeded. Try again later.",
}


class HuggingFace(Remote):
    """RMBG 2.0 through Hugging Face Inference Providers."""

    service = "Hugging Face"
    info = service_info(
        "hf-rmbg-2.0",
        title="Hugging Face: RMBG 2.0",
        model="briaai/RMBG-2.0 on fal",
        license="BRIA's RMBG 2.0 as a service, under Hugging Face's terms for Inference Providers.",
        license_url="https://huggingface.co/briaai/RMBG-2.0",
        pixels="The photo is sent to Hugging Face, which forwards it to fal.ai.",
        seconds=6.0,
        input_size="1024 x 1024",
        supports=("soft alpha",),
        key_name="HF_TOKEN",
    )

    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        if not call.key.startswith("hf_"):
            raise NotReadyError("A Hugging Face token begins with hf_. Create one with permission to call Inference Providers.")
        hub = call.url("RMBG_HF_URL", HUB)
        headers = {"Authorization": f"Bearer {call.key}"}
        call.progress(Message("Sending the photo to {service}", service=call.name))
        request = Request("GET", f"{hub}/api/models/{MODEL}?expand=inferenceProviderMapping")
        response = call.checked(call.send(request), failure, step="submit")
        url = f"{ROUTER if hub == HUB else hub}/fal-ai/{endpoint(response)}{QUEUE}"
        arguments = {"image_url": encoded_photo.data_uri, "sync_mode": True}
        request = Request("POST", url, headers, json=arguments, pays=True)
        job = job_url(call.checked(call.send(request), failure, step="submit"), hub)
        text = "fal is processing the photo for Hugging Face"
        response = fal.finish(call, [f"{job}/status{QUEUE}", f"{job}{QUEUE}"], headers, failure, text)
        return ProviderResult(picture(call, response.json("image", "url")))


def endpoint(response: Response) -> str:
    """Return fal's endpoint of the model from the hub's response, which is a mapping or a list of providers."""
    rows = [row for row in response.objects("inferenceProviderMapping") if row.get("provider") == "fal-ai"]
    name = rows[-1].get("providerId") if rows else response.json("inferenceProviderMapping", "fal-ai", "providerId")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
        raise ServiceError("The response of Hugging Face has no result.")
    return name


def job_url(response: Response, hub: str) -> str:
    """Return the URL of a submitted job at the router, from the path of its URL at fal."""
    path = urlsplit(str(response.json("response_url"))).path
    if not re.fullmatch(r"(/\w[\w.-]*)+", path):
        raise ServiceError("The response of Hugging Face has no result.")
    base = urlsplit(hub)
    return f"{ROUTER}/fal-ai{path}" if hub == HUB else f"{base.scheme}://{base.netloc}{path}"


def failure(client: ServiceClient, response: Response, *, step: str) -> ServiceError:
    """Return the error of a response, and mark the call as rejected if it cannot have been charged."""
    if step == "submit" and 300 <= response.status < 500:
        client.mark_rejected()
    return http_failure(client, response, response.json("error") or fal.error_detail(response)[0], ERRORS)
