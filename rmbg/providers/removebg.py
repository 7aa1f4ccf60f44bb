"""Services that speak the language of remove.bg, version 1.0: remove.bg itself as long as it lasts, and those after it.

There is no way to repeat a request without paying again, so one is sent once.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rmbg import keys
from rmbg.cutout import Cost
from rmbg.errors import NoSubjectError, RmbgError, ServiceError
from rmbg.http import Request, Response, Session, address, later
from rmbg.prices import PRICES, amount
from rmbg.providers.base import Call, Option, ProviderInfo, Status
from rmbg.providers.remote import Remote, Reply, Sent
from rmbg.settings import Settings

#: From remove.bg's announcement; contracts of companies go on, and so do compatible services (RMBG_REMOVEBG_URL).
ENDS = "2026-12-01"

#: Credits that a picture takes by its size; the small one is for looking.
CREDITS = {"preview": Decimal("0.25")}


class RemoveBg(Remote):
    service = "remove.bg"
    info = ProviderInfo(
        id="removebg",
        title="remove.bg and compatible",
        kind="remote",
        model="remove.bg API 1.0",
        licence=f"The service's own terms. remove.bg has announced the end of its self-service API for {ENDS}.",
        licence_url="https://www.remove.bg/tos",
        pixels="The photo is sent to remove.bg, or to the service that RMBG_REMOVEBG_URL names.",
        price_usd=PRICES["removebg"].usd,
        price_basis=PRICES["removebg"].basis,
        price_seen=PRICES["removebg"].seen,
        seconds=3.0,
        input_size="full size",
        supports=("soft alpha", "charged credits"),
        options=(
            Option(
                "size",
                "Size",
                "choice",
                "full",
                "preview: a quarter of a million pixels for a quarter of a credit.",
                choices=("preview", "auto", "full", "50MP"),
            ),
            Option(
                "type",
                "Subject",
                "choice",
                "auto",
                choices=("auto", "person", "product", "car", "animal", "graphic", "transportation", "other"),
            ),
            Option("channels", "Send back", "choice", "rgba", "alpha: the mask only.", choices=("rgba", "alpha")),
            Option("semitransparency", "Glass stays translucent", "bool", True, "Keep what shines through glass."),
        ),
        key_name="REMOVEBG_API_KEY",
    )

    def status(self, settings: Settings) -> Status:
        own = "" if settings.environ.get("RMBG_REMOVEBG_URL") else f"; remove.bg's own service ends {ENDS}"
        if keys.available(self.info.key_name, settings):
            return Status("ready", f"ready{own}")
        return Status("key", f"needs a key{own}")

    def expected(self, options: Mapping[str, Any], settings: Settings) -> Cost:
        credit = PRICES[self.info.id].counted if settings.removebg_credit_usd is None else settings.removebg_credit_usd
        return Cost(CREDITS.get(options["size"], Decimal(1)) * credit, "listed")

    def ask(self, session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> Reply:
        base = address(call.settings, "RMBG_REMOVEBG_URL", "https://api.remove.bg/v1.0")
        call.progress(None, "Sending the photo to remove.bg")
        response = session.send(request(f"{base}/removebg", session.key, sent, options))
        if not response.ok:
            raise failure(session, response)
        session.cost = cost_of(response, call.settings)
        return Reply(response.body, mask=options["channels"] == "alpha")


def request(url: str, key: str, sent: Sent, options: Mapping[str, Any]) -> Request:
    """The request for one photo."""
    form = {name: str(options[name]) for name in ("size", "type", "channels")}
    # The default may be JPG, which has no transparency.
    form |= {"format": "png", "semitransparency": "true" if options["semitransparency"] else "false"}
    file = ("photo." + sent.mime.removeprefix("image/"), sent.data, sent.mime)
    headers = {"X-Api-Key": key, "Accept": "image/png"}
    return Request("POST", url, headers, form=form, files={"image_file": file}, pays=True)


def cost_of(response: Response, settings: Settings) -> Cost:
    """Credits charged times the price of one, which only their buyer knows."""
    credits = amount(response.headers.get("x-credits-charged"))
    if credits is None:
        return Cost(None, "unknown")
    if settings.removebg_credit_usd is not None:
        return Cost(credits * settings.removebg_credit_usd, "charged")
    return Cost(credits * PRICES["removebg"].counted, "listed")


def failure(session: Session, response: Response) -> RmbgError:
    """The error of an answer. What the service itself calls an error takes no credit; a gateway's word is not its own."""
    body, status = response.json(), response.status
    errors = body.get("errors") if isinstance(body, dict) else None
    error = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code = str(error.get("code") or "")
    said = session.said(" ".join(str(error.get(name) or "") for name in ("title", "detail")))
    if error or 300 <= status < 500:
        session.refused()
    if code == "unknown_foreground":
        return NoSubjectError("remove.bg found nothing in the photo to cut out.")
    if status == 402 or "credit" in code:
        return ServiceError("remove.bg has no credits left for this key.", "user")
    if status in (401, 403):
        return ServiceError("remove.bg does not accept the key.", "user")
    if status == 429:
        return ServiceError(f"remove.bg has too many requests from this key at the moment; {later(response)}.", "user")
    if 300 <= status < 400:
        return ServiceError("remove.bg sends on to another address, and neither photo nor key are sent there.")
    if status >= 500:
        return ServiceError(f"remove.bg failed (HTTP {status}){said}")
    return ServiceError(f"remove.bg cannot use the photo or the options{said}", "user")
