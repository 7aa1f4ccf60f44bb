"""Loopback servers of the services with an ordinary wire format: one request with a photo, and a picture or a job."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any

from PIL import Image

from tests.servers.removebg import form_fields
from tests.servers.runware import with_alpha_of
from tests.servers.service import FAULTS, Service
from tests.servers.web import Exchange


class Ordinary(Service):
    """Base class: a subclass reads the photo from the fields of a request, and sends the result or an error."""

    path: str
    header = "Authorization"
    prefix = "Bearer "

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.polls = 2  # states before a job is complete
        self.failed = False  # jobs fail
        self.host_of_urls: str | None = None
        self.cancelled: list[str] = []
        self._job_numbers = itertools.count()

    def answer(self, exchange: Exchange) -> None:
        if exchange.path in self.files:
            return self.send_file(exchange)
        if exchange.headers.get(self.header) != self.prefix + self.key:
            return self.refuse(exchange, 401, f"Invalid key {exchange.headers.get(self.header)}")
        job = next((job for job in self.jobs if f"/{job['id']}" in exchange.path), None)
        if job is not None:
            return self.about(exchange, job)
        if exchange.path != self.path or exchange.command != "POST":
            return exchange.send(404)
        if self.inject_fault("submit", exchange):
            return
        fields = form_fields(exchange)
        try:
            data = self.photo(fields)
            Image.open(io.BytesIO(data)).load()
        except (KeyError, OSError, ValueError):
            return self.refuse(exchange, 400, "The image cannot be read")
        rest = {name: value for name, value in fields.items() if isinstance(value, (str, bool)) and len(str(value)) < 200}
        job = {"id": f"job-{next(self._job_numbers)}", "fields": rest, "data": data, "polls": self.polls}
        self.jobs.append(job)
        if not self.inject_fault("stored", exchange):
            self.respond(exchange, job)

    def photo(self, fields: dict[str, Any]) -> bytes:
        """Return the file of the photo in a request."""
        raise NotImplementedError

    def respond(self, exchange: Exchange, job: dict[str, Any]) -> None:
        """Send the response to a request with a photo."""
        raise NotImplementedError

    def about(self, exchange: Exchange, job: dict[str, Any]) -> None:
        """Send the state of a job, or cancel it."""
        if exchange.command == "POST":
            self.cancelled.append(job["id"])
            return exchange.send_json(200, {})
        if not self.inject_fault("status", exchange):
            job["polls"] -= 1
            self.send_state(exchange, job)

    def send_state(self, exchange: Exchange, job: dict[str, Any]) -> None:
        raise NotImplementedError

    def url_of(self, path: str) -> str:
        return f"http://{self.host_of_urls or f'127.0.0.1:{self.port}'}{path}"


class Photoroom(Ordinary):
    name, path, header, prefix = "Photoroom", "/photoroom/segment", "x-api-key", ""

    def photo(self, fields: dict[str, Any]) -> bytes:
        return fields["image_file"]

    def respond(self, exchange: Exchange, job: dict[str, Any]) -> None:
        made = self.made(job["data"], mask=job["fields"]["channels"] == "alpha")
        exchange.send(200, made, self.picture_kind, x_uncertainty_score="0.1")

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        exchange.send_json(status, {"detail": message, "status_code": status, "type": code}, **headers)


class Recraft(Ordinary):
    name, path = "Recraft", "/recraft/images/removeBackground"

    def photo(self, fields: dict[str, Any]) -> bytes:
        return fields["file"]

    def respond(self, exchange: Exchange, job: dict[str, Any]) -> None:
        made = self.made(job["data"])
        image = {"b64_json": base64.b64encode(made).decode()}
        if job["fields"].get("response_format") != "b64_json":
            image = {"url": self.publish(made)}
        exchange.send_json(200, {"created": 1, "credits": 990, "image": image | {"image_id": "x"}})

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        exchange.send_json(status, {"code": code, "message": message}, **headers)


class WithoutBg(Ordinary):
    name, path, header, prefix = "withoutBG", "/withoutbg/alpha-channel-base64", "X-API-Key", ""

    def photo(self, fields: dict[str, Any]) -> bytes:
        return base64.b64decode(fields["image_base64"], validate=True)

    def respond(self, exchange: Exchange, job: dict[str, Any]) -> None:
        exchange.send_json(200, {"alpha_base64": base64.b64encode(self.made(job["data"], mask=True)).decode()})

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        exchange.send_json(status, {"detail": message}, **headers)


class Bria(Ordinary):
    name, path, header, prefix = "BRIA", "/bria/image/edit/remove_background", "api_token", ""

    def photo(self, fields: dict[str, Any]) -> bytes:
        return base64.b64decode(fields["image"], validate=True)

    def respond(self, exchange: Exchange, job: dict[str, Any]) -> None:
        if job["fields"].get("sync"):
            return exchange.send_json(200, {"request_id": job["id"], "result": self.result(job)})
        url = self.url_of(f"/bria/status/{job['id']}")
        exchange.send_json(202, {"request_id": job["id"], "status_url": url})

    def result(self, job: dict[str, Any]) -> dict[str, Any]:
        made = self.made(job["data"])
        if job["fields"]["preserve_alpha"]:
            made = with_alpha_of(job["data"], made)
        return {"image_url": self.publish(made)}

    def send_state(self, exchange: Exchange, job: dict[str, Any]) -> None:
        if job["polls"] > 0:
            return exchange.send_json(200, {"status": "IN_PROGRESS", "request_id": job["id"]})
        if self.failed:
            return exchange.send_json(200, {"status": "ERROR", "error": {"code": 500, "message": "It failed"}})
        exchange.send_json(200, {"status": "COMPLETED", "result": self.result(job), "request_id": job["id"]})

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        error = {"code": code, "message": message, "details": message}
        exchange.send_json(status, {"error": error, "request_id": "x"}, **headers)


class Replicate(Ordinary):
    name, path = "Replicate", "/replicate/predictions"

    def photo(self, fields: dict[str, Any]) -> bytes:
        return base64.b64decode(fields["input"]["image"].partition(",")[2], validate=True)

    def respond(self, exchange: Exchange, job: dict[str, Any]) -> None:
        exchange.send_json(201, self.prediction(job, "starting"))

    def prediction(self, job: dict[str, Any], status: str, **more: Any) -> dict[str, Any]:
        url = self.url_of(f"/replicate/predictions/{job['id']}")
        urls = {"get": url, "cancel": f"{url}/cancel"}
        return {"id": job["id"], "status": status, "output": None, "error": None, "urls": urls} | more

    def send_state(self, exchange: Exchange, job: dict[str, Any]) -> None:
        if job["polls"] > 0:
            return exchange.send_json(200, self.prediction(job, "processing"))
        if self.failed:
            return exchange.send_json(200, self.prediction(job, "failed", error="It failed"))
        output = self.publish(self.made(job["data"]))
        exchange.send_json(200, self.prediction(job, "succeeded", output=output, metrics={"predict_time": 1.5}))

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        exchange.send_json(status, {"detail": message, "status": status}, **headers)


ORDINARY_FAULTS = FAULTS | {
    "401": lambda s, x: s.refuse(x, 401, f"Invalid key {x.headers.get(s.header)}"),
    "no balance": lambda s, x: s.refuse(x, 402, "Not enough credits", "not_enough_credits"),
    "422 with the picture": lambda s, x: s.refuse(x, 422, "Cannot read " + base64.b64encode(x.seen.body).decode()),
}
