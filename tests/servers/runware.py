"""Loopback Runware: one URL that takes an array of tasks and returns data and errors."""

from __future__ import annotations

import base64
import io
import json
import uuid
from typing import Any

import numpy as np
from PIL import Image

from tests.servers.service import FAULTS, Service
from tests.servers.web import Exchange

Task = dict[str, Any]

PRICES = {"bria:2@1": 0.018, "runware:109@1": 0.0013, "ideogram:remove-background@0": 0.01}
PRICES |= {f"runware:112@{number}": 0.0006 for number in (1, 2, 3, 5, 6, 7, 8, 9, 10)}


class Runware(Service):
    name = "Runware"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.polls = 1  # getResponse results before an async job completes
        self.reports_cost = True
        self.keeps_history = True  # getResponse returns jobs of earlier requests
        self.job_error: dict[str, Any] | None = None

    def answer(self, exchange: Exchange) -> None:
        if exchange.path in self.files:
            return self.send_file(exchange)
        if exchange.path != "/v1" or exchange.command != "POST":
            return exchange.send(404)
        tasks = exchange.seen.json
        if not isinstance(tasks, list):
            return self.refuse(exchange, 400, "The body must be an array", "invalidRequest")
        token = exchange.headers.get("Authorization", "").removeprefix("Bearer ")
        if tasks and tasks[0].get("taskType") == "authentication":
            token = tasks.pop(0)["apiKey"]
        if token != self.key:
            return self.refuse(exchange, 401, f"Invalid API key {token}.", "invalidApiKey", parameter="apiKey")
        kinds = {"removeBackground": self._remove, "getResponse": self._response, "getTaskDetails": self._details}
        data: list[Task] = []
        errors: list[Task] = []
        status = 200
        for task in tasks:
            kind = kinds.get(task.get("taskType"))
            if kind is None:
                errors.append(_error("invalidTaskType", "Unknown task type", task))
                status = 400
                continue
            answer = kind(exchange, task)
            if answer is None:
                return  # a fault has sent the response
            good, bad, code = answer
            data += good
            errors += bad
            status = max(status, code)
        exchange.send_json(status, {"data": data} | ({"errors": errors} if errors else {}))

    def refuse(
        self, exchange: Exchange, status: int, message: str, code: str = "error", parameter: str = "", **headers: str
    ) -> None:
        task = exchange.seen.json[0] if isinstance(exchange.seen.json, list) and exchange.seen.json else {}
        exchange.send_json(status, {"errors": [_error(code, message, task) | {"parameter": parameter}]}, **headers)

    def _remove(self, exchange: Exchange, task: Task) -> Any:
        if self.inject_fault("submit", exchange):
            return None
        if any(job["taskUUID"] == task["taskUUID"] for job in self.jobs):
            return [], [_error("conflictTaskUUID", "A task with this taskUUID exists already", task)], 400
        wrong = _wrong(task)
        if wrong:
            return [], [_error("invalid" + wrong, f"Invalid value for {wrong}", task)], 400
        job = {"taskUUID": task["taskUUID"], "task": task, "polls": self.polls if task.get("deliveryMethod") == "async" else 0}
        self.jobs.append(job)
        if self.inject_fault("stored", exchange):
            return None
        if task.get("deliveryMethod") == "async":
            return [{"taskType": "removeBackground", "taskUUID": task["taskUUID"]}], [], 200
        return (*self._outcome(job), 200)

    def _response(self, exchange: Exchange, task: Task) -> Any:
        if self.inject_fault("status", exchange):
            return None
        job = next((j for j in self.jobs if j["taskUUID"] == task["taskUUID"]), None)
        if job is None or not self.keeps_history:
            return [], [], 200
        if job["polls"] > 0:
            job["polls"] -= 1
            return [{"taskType": "removeBackground", "taskUUID": job["taskUUID"], "status": "processing"}], [], 200
        data, errors = self._outcome(job)
        return [item | {"status": "success"} for item in data], [item | {"status": "error"} for item in errors], 200

    def _details(self, exchange: Exchange, task: Task) -> Any:
        if self.inject_fault("details", exchange):
            return None
        job = next((j for j in self.jobs if j["taskUUID"] == task["taskUUID"]), None)
        if job is None:
            return [], [_error("taskFailedOrNotFound", "No such task", task)], 404
        data, errors = self._outcome(job)
        response = {"data": data} | ({"errors": errors} if errors else {})
        item = {"taskType": "getTaskDetails", "taskUUID": job["taskUUID"], "request": [job["task"]], "response": response}
        return [item], [], 200

    def _outcome(self, job: Task) -> tuple[list[Task], list[Task]]:
        task = job["task"]
        if self.job_error:
            return [], [_error("inferenceError", "The model failed", task) | self.job_error]
        source = task["inputs"]["image"]
        source = base64.b64decode(source.partition(",")[2] if source.startswith("data:") else source)
        settings = task.get("settings", {})
        # The default format is JPG, which has no transparency.
        self.form = {"PNG": "PNG", "WEBP": "WEBP", "JPG": "JPEG"}[task.get("outputFormat", "JPG")]
        made = self.made(source, mask=settings.get("returnOnlyMask", False))
        if task.get("providerSettings", {}).get("bria", {}).get("preserveAlpha"):
            made = with_alpha_of(source, made)
        item = {
            "taskType": "imageBackgroundRemoval",  # as in the examples; the schema says removeBackground
            "taskUUID": task["taskUUID"],
            "imageUUID": str(uuid.uuid4()),
            "inputImageUUID": str(uuid.uuid4()),
        }
        encoded = base64.b64encode(made).decode()
        match task.get("outputType", "URL"):
            case "URL":
                item["imageURL"] = self.publish(made)
            case "base64Data":
                item["imageBase64Data"] = encoded
            case "dataURI":
                item["imageDataURI"] = f"data:image/png;base64,{encoded}"
        if self.reports_cost and task.get("includeCost"):
            item["cost"] = PRICES[task["model"]]
        return [item], []


def with_alpha_of(source: bytes, made: bytes) -> bytes:
    image = Image.open(io.BytesIO(made)).convert("RGBA")
    own = np.asarray(Image.open(io.BytesIO(source)).convert("RGBA"))[..., 3] / 255.0
    image.putalpha(Image.fromarray(np.rint(np.asarray(image)[..., 3] * own).astype(np.uint8)))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _wrong(task: Task) -> str | None:
    """Return the name of the first parameter that violates the documented schema."""
    settings = task.get("settings", {})
    rgba = settings.get("rgba", [255, 255, 255, 0])
    checks = {
        "model": task.get("model") in PRICES,
        "outputType": task.get("outputType", "URL") in ("URL", "base64Data", "dataURI"),
        "outputFormat": task.get("outputFormat", "JPG") in ("JPG", "PNG", "WEBP"),
        "outputQuality": 20 <= task.get("outputQuality", 95) <= 99,
        "deliveryMethod": task.get("deliveryMethod", "sync") in ("sync", "async"),
        "ttl": task.get("ttl", 60) >= 60 and ("ttl" not in task or task.get("outputType", "URL") == "URL"),
        "image": isinstance(task.get("inputs", {}).get("image"), str),
        "rgba": len(rgba) == 4 and all(0 <= v <= 255 for v in rgba),
        "settings": not settings or task.get("model") == "runware:109@1",
        "providerSettings": "providerSettings" not in task or task.get("model") == "bria:2@1",
    }
    for name in ("alphaMattingForegroundThreshold", "alphaMattingBackgroundThreshold", "alphaMattingErodeSize"):
        checks[name] = 1 <= settings.get(name, 10) <= 255
    return next((name for name, good in checks.items() if not good), None)


def _error(code: str, message: str, task: Task) -> Task:
    return {
        "code": code,
        "message": message,
        "taskType": task.get("taskType"),
        "taskUUID": task.get("taskUUID"),
        "documentation": "https://runware.ai/docs",
    }


def _token(exchange: Exchange) -> str:
    return exchange.headers.get("Authorization", "").removeprefix("Bearer ")


def _echo(service: Service, exchange: Exchange) -> None:
    picture = json.loads(exchange.seen.body)[0]["inputs"]["image"]
    service.refuse(exchange, 400, f"Invalid image {picture}", "invalidImage", parameter="inputs.image")


def _wrapped(service: Service, exchange: Exchange) -> None:
    """Send the alternative error format of some failures."""
    error = {"code": "internalError", "message": "Something broke"}
    exchange.send_json(500, {"error": error, "taskType": "removeBackground", "taskUUID": exchange.seen.json[0]["taskUUID"]})


RUNWARE_FAULTS = FAULTS | {
    "401": lambda s, x: s.refuse(x, 401, f"Invalid API key {_token(x)}.", "invalidApiKey", parameter="apiKey"),
    "no balance": lambda s, x: s.refuse(x, 402, "You have no credits left.", "insufficientCredits"),
    "422 with the picture": _echo,
    "error inside HTTP 200": lambda s, x: s.refuse(x, 200, "The provider took too long.", "timeoutProvider"),
    "alternative error format": _wrapped,
}
