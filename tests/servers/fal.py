"""Loopback fal: queue, direct endpoint, storage, CDN and price list, each under its own path.

``/queue`` is queue.fal.run, ``/run`` fal.run, ``/rest`` rest.fal.ai, ``/api`` api.fal.ai; all other paths are the CDN.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import urllib.parse
from typing import Any

from PIL import Image

from tests.servers.service import FAULTS, Service
from tests.servers.web import Exchange

CDN_TOKEN = "cdn-token-of-one-hour"

Arguments = dict[str, Any]


class Fal(Service):
    name = "fal"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.polls = 2  # status responses before a job completes
        self._job_numbers = itertools.count()  # of jobs, which concurrent requests submit
        self.units: str | None = "1"
        self.unit_price = 0.018
        self.job_error: tuple[int, Any] | None = None
        self.host_of_urls: str | None = None
        self.cancelled: list[str] = []

    def answer(self, exchange: Exchange) -> None:
        path = urllib.parse.urlsplit(exchange.path).path
        if path in self.files:
            return self.send_file(exchange)
        first, _, rest = path.lstrip("/").partition("/")
        part = {"queue": self._queue, "run": self._run, "rest": self._rest, "files": self._upload, "api": self._prices}.get(
            first
        )
        if part is None:
            return exchange.send(404)
        token = exchange.headers.get("Authorization", "")
        if first == "files":
            if token != f"Bearer {CDN_TOKEN}":
                return self.refuse(exchange, 401, "Invalid token")
        elif token != f"Key {self.key}":
            return self.refuse(exchange, 401, "Authentication is required to access this application", "unauthorized")
        part(exchange, rest)

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        exchange.send_json(status, {"detail": message, "error_type": code}, **headers)

    # Queue

    def _queue(self, exchange: Exchange, path: str) -> None:
        endpoint, _, tail = path.partition("/requests/")
        if not tail:
            return self._submit(exchange, endpoint)
        number, _, verb = tail.partition("/")
        job = next((j for j in self.jobs if j["id"] == number and j["owner"] == endpoint), None)
        if job is None:
            return self.refuse(exchange, 404, "Request not found", "not_found")
        steps = {("GET", "status"): self._status, ("GET", ""): self._result, ("PUT", "cancel"): self._cancel}
        step = steps.get((exchange.command, verb))
        return step(exchange, job) if step else self.refuse(exchange, 405, "Method Not Allowed")

    def _submit(self, exchange: Exchange, endpoint: str) -> None:
        if self.inject_fault("submit", exchange):
            return
        job = self._store(exchange, endpoint)
        if self.inject_fault("stored", exchange):
            return
        base = f"http://{self.host_of_urls or f'127.0.0.1:{self.port}'}/queue/{job['owner']}/requests/{job['id']}"
        exchange.send_json(
            200,
            {
                "status": "IN_QUEUE",
                "request_id": job["id"],
                "response_url": base,
                "status_url": f"{base}/status",
                "cancel_url": f"{base}/cancel",
                "queue_position": self.polls,
            },
        )

    def _store(self, exchange: Exchange, endpoint: str) -> dict[str, Any]:
        owner = "/".join(endpoint.split("/")[:2])  # URLs of a job omit the part of the endpoint after owner and alias
        job = {
            "id": f"00000000-0000-4000-8000-{next(self._job_numbers):012d}",
            "owner": owner,
            "endpoint": endpoint,
            "arguments": exchange.seen.json,
            "headers": exchange.seen.headers,
            "polls": self.polls,
            "state": "queued",
        }
        self.jobs.append(job)
        return job

    def _status(self, exchange: Exchange, job: dict[str, Any]) -> None:
        if self.inject_fault("status", exchange):
            return
        if job["polls"] > 0:
            job["polls"] -= 1
            if job["polls"] > 0:
                return exchange.send_json(202, {"status": "IN_QUEUE", "queue_position": job["polls"] - 1})
            logs = [{"message": "Loading the picture", "level": "INFO", "source": "USER", "timestamp": "2026-11-21T00:00:00Z"}]
            asked = "logs=true" in exchange.path or "logs=1" in exchange.path
            return exchange.send_json(202, {"status": "IN_PROGRESS", "logs": logs if asked else None})
        job["state"] = "complete"
        body = {"status": "COMPLETED", "logs": [], "metrics": {"inference_time": 0.5}}
        if self.job_error:
            body |= {"error": "it failed", "error_type": "internal_error"}
        exchange.send_json(200, body)

    def _result(self, exchange: Exchange, job: dict[str, Any]) -> None:
        if self.inject_fault("result", exchange):
            return
        if job["state"] != "complete":
            return self.refuse(exchange, 400, "Request is still in progress", "bad_request")
        self._output(exchange, job)

    def _cancel(self, exchange: Exchange, job: dict[str, Any]) -> None:
        if self.inject_fault("cancel", exchange):
            return
        if job["state"] == "complete":
            return exchange.send_json(400, {"status": "ALREADY_COMPLETED"})
        self.cancelled.append(job["id"])
        exchange.send_json(202, {"status": "CANCELLATION_REQUESTED"})

    # Direct endpoint, and the output of both

    def _run(self, exchange: Exchange, endpoint: str) -> None:
        if self.inject_fault("submit", exchange):
            return
        job = self._store(exchange, endpoint)
        if not self.inject_fault("stored", exchange):
            self._output(exchange, job)

    def _output(self, exchange: Exchange, job: dict[str, Any]) -> None:
        arguments = job["arguments"]
        if self.job_error:
            return exchange.send_json(*self.job_error, x_fal_request_id=job["id"])
        data = self._picture(arguments.get("image_url"))
        if data is None:
            error = {"loc": ["body", "image_url"], "msg": "Could not load the image", "type": "image_load_error"}
            return exchange.send_json(422, {"detail": [error | {"input": arguments.get("image_url")}]})
        headers = {"x_fal_request_id": job["id"]}
        if self.units is not None:
            headers["x_fal_billable_units"] = self.units
        if job["endpoint"].endswith("/replace"):
            return self._replaced(exchange, arguments, data, headers)
        if "sam-3" in job["endpoint"]:
            masks = [{"url": self._url(self.made(data, mask=True), arguments)}]
            return exchange.send_json(200, {"masks": masks, "scores": [0.9]}, **headers)
        made = self.made(data)
        width, height = Image.open(io.BytesIO(data)).size
        image = {
            "content_type": self.picture_kind,
            "file_name": "x.png",
            "file_size": len(made),
            "width": width,
            "height": height,
        }
        exchange.send_json(200, {"image": image | {"url": self._url(made, arguments)}}, **headers)

    def _replaced(self, exchange: Exchange, arguments: Arguments, data: bytes, headers: dict[str, str]) -> None:
        if bool(arguments.get("ref_image_url")) == bool(arguments.get("prompt")):
            detail = [
                {
                    "loc": ["body"],
                    "msg": "Either ref_image_url or prompt has to be provided but not both",
                    "type": "value_error",
                }
            ]
            return exchange.send_json(422, {"detail": detail})
        out = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("RGB").save(out, "PNG")
        images = [{"url": self._url(self.picture or out.getvalue(), arguments)} for _ in range(arguments.get("num_images", 1))]
        exchange.send_json(200, {"images": images, "seed": arguments.get("seed", 4711)}, **headers)

    def _url(self, made: bytes, arguments: Arguments) -> str:
        if arguments.get("sync_mode"):
            return f"data:{self.picture_kind};base64,{base64.b64encode(made).decode()}"
        return self.publish(made)

    def _picture(self, url: Any) -> bytes | None:
        if isinstance(url, str) and url.startswith("data:"):
            data = base64.b64decode(url.partition(",")[2])
        else:
            data = self.files.get(urllib.parse.urlsplit(str(url)).path, (b"", ""))[0]
        try:
            Image.open(io.BytesIO(data)).load()
        except OSError:
            return None
        return data

    # Storage and prices

    def _rest(self, exchange: Exchange, path: str) -> None:
        if self.inject_fault("token", exchange):
            return
        host = f"http://{self.host_of_urls or f'127.0.0.1:{self.port}'}"
        expires = "2099-01-01T00:00:00Z"
        exchange.send_json(200, {"token": CDN_TOKEN, "token_type": "Bearer", "base_url": host, "expires_at": expires})

    def _upload(self, exchange: Exchange, path: str) -> None:
        if not self.inject_fault("upload", exchange):
            exchange.send_json(200, {"access_url": self.publish(exchange.seen.body)})

    def _prices(self, exchange: Exchange, path: str) -> None:
        if self.inject_fault("price", exchange):
            return
        endpoint = urllib.parse.parse_qs(urllib.parse.urlsplit(exchange.path).query)["endpoint_id"][0]
        price = {"endpoint_id": endpoint, "unit_price": self.unit_price, "unit": "image", "currency": "USD"}
        exchange.send_json(200, {"prices": [price], "has_more": False})


def _echo(service: Service, exchange: Exchange) -> None:
    """Send an error response that contains the whole image."""
    picture = json.loads(exchange.seen.body)["image_url"]
    detail = {"loc": ["body", "image_url"], "msg": f"Could not load {picture}", "type": "image_load_error", "input": picture}
    exchange.send_json(422, {"detail": [detail]})


FAL_FAULTS = FAULTS | {
    "401": lambda s, x: s.refuse(x, 401, f"Invalid key {key_of(x)}", "unauthorized"),
    "no balance": lambda s, x: s.refuse(
        x, 403, "User is locked. Reason: Exhausted balance. Top up at fal.ai/dashboard/billing."
    ),
    "422 with the picture": _echo,
}


def key_of(exchange: Exchange) -> str:
    """Return the API key of a request, for error messages that contain it."""
    return exchange.headers.get("Authorization", "").removeprefix("Key ").removeprefix("Bearer ")
