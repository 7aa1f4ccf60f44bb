"""gigarouter: RMBG 1.4, announced and not there yet.

The service has published neither an address nor a shape for pictures. What is here assumes what it says about itself, that it
speaks like OpenAI, and asks it first, at no cost, whether it has the model at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmbg.cutout import Cost
from rmbg.errors import NotReadyError, ServiceError
from rmbg.http import Request, Response, Session, address, later
from rmbg.prices import PRICES
from rmbg.providers.base import Call, ProviderInfo, Status
from rmbg.providers.remote import Remote, Reply, Sent, download, from_data_uri, opened
from rmbg.settings import Settings

MODEL = "briaai/RMBG-1.4"


class Gigarouter(Remote):
    service = "gigarouter"
    info = ProviderInfo(
        id="gigarouter-rmbg-1.4",
        title="gigarouter: RMBG 1.4",
        kind="remote",
        model=MODEL,
        licence="BRIA's RMBG 1.4: non-commercial use, or an agreement with BRIA.",
        licence_url="https://huggingface.co/briaai/RMBG-1.4",
        pixels="The photo is sent to gigarouter.ai, once the service has the model.",
        price_usd=PRICES["gigarouter-rmbg-1.4"].usd,
        price_basis=PRICES["gigarouter-rmbg-1.4"].basis,
        price_seen=PRICES["gigarouter-rmbg-1.4"].seen,
        input_size="1024 x 1024",
        supports=("announced", "unverified"),
        key_name="GIGAROUTER_API_KEY",
    )

    def status(self, settings: Settings) -> Status:
        status = super().status(settings)
        return Status(
            status.state, "announced; asked at each call whether it is there" if status.usable else "announced, needs a key"
        )

    def ask(self, session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> Reply:
        base = address(call.settings, "RMBG_GIGAROUTER_URL", "https://gigarouter.ai/v1")
        headers = {"Authorization": f"Bearer {session.key}"}
        call.progress(None, "Asking gigarouter whether it has the model")
        response = session.send(Request("GET", f"{base}/models", headers))
        if not response.ok:
            raise failure(session, response)
        if MODEL not in listed(response):
            raise NotReadyError(f"gigarouter has announced {MODEL} and does not offer it yet.")
        call.progress(None, "Sending the photo to gigarouter")
        response = session.send(request(base, headers, sent))
        if not response.ok:
            raise failure(session, response)
        # It says nothing about cost that we know of, and its price is an estimate of before the start.
        session.cost = Cost(None, "unknown")
        image = _file(session, response, call)
        # Nobody has said whether it sends a mask or a cut-out; a picture without transparency is taken for a mask.
        return Reply(image, mask=opened(image, self.service, call.settings).alpha is None)


def request(base: str, headers: Mapping[str, str], sent: Sent) -> Request:
    """The request for one photo, in the shape of OpenAI's edits of images."""
    file = ("photo." + sent.mime.removeprefix("image/"), sent.data, sent.mime)
    form = {"model": MODEL, "response_format": "b64_json"}
    return Request("POST", f"{base}/images/edits", headers, form=form, files={"image": file}, pays=True)


def listed(response: Response) -> set[str]:
    """The models that the service has now."""
    body = response.json()
    rows = body.get("data") if isinstance(body, dict) else None
    return {str(row.get("id")) for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()


def _file(session: Session, response: Response, call: Call) -> bytes:
    body = response.json()
    rows = body.get("data") if isinstance(body, dict) else None
    first = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    if first.get("b64_json"):
        return from_data_uri(session, first["b64_json"])
    if first.get("url"):
        return download(session, first["url"], ("gigarouter.ai", ".gigarouter.ai"), call.settings)
    raise ServiceError("gigarouter answered with something that is no result.")


def failure(session: Session, response: Response) -> ServiceError:
    """The error of an answer."""
    body, status = response.json(), response.status
    error = body.get("error") if isinstance(body, dict) else None
    said = session.said(error.get("message") if isinstance(error, dict) else "")
    if 300 <= status < 500:
        session.refused()
    if status in (401, 403):
        return ServiceError("gigarouter does not accept the key.", "user")
    if status == 402:
        return ServiceError("gigarouter has no credit left for this key.", "user")
    if status == 429:
        return ServiceError(f"gigarouter has too many requests from this key at the moment; {later(response)}.", "user")
    if status == 404:
        return ServiceError(f"gigarouter does not offer {MODEL} at this address{said}")
    if status < 500:
        return ServiceError(f"gigarouter cannot use the photo or the options{said}", "user")
    return ServiceError(f"gigarouter failed (HTTP {status}){said}")
