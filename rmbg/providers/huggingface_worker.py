"""Child process of the Hugging Face provider.

The client of huggingface_hub polls a job without a deadline, cannot be cancelled, and follows URLs in responses. A child
process can be killed, and its allowed hosts do not affect other users of huggingface_hub in the parent.

Standard input: one line of JSON with token, url, origins, hosts, seconds, limit and pixels, then the photo. Standard output:
lines of JSON, ``{"step": "sent"}`` before the paid request, ``{"step": "accepted"}`` before the first request after it, and
finally ``{"image": base64}`` or ``{"error": ..., "text": ...}``. The package is not imported, which keeps the start fast.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

MODEL = "briaai/RMBG-2.0"

#: First and longest pause between two attempts to fetch a result, in seconds.
BACKOFF, MAX_BACKOFF = 0.5, 8.0


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    photo = sys.stdin.buffer.read()
    # The parent kills this process at its deadline. The timer covers a parent that has exited before.
    watchdog = threading.Timer(job["seconds"] + 5, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    # huggingface_hub reads these on import.
    os.environ |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if job["url"]:
        os.environ["HF_ENDPOINT"] = job["url"]
    write_message(process_photo(job, photo))


def process_photo(job: dict[str, Any], photo: bytes) -> dict[str, Any]:
    """Return the final message: the result for one photo, or an error."""
    import huggingface_hub
    from huggingface_hub import InferenceClient, constants
    from huggingface_hub.utils import get_session, set_client_factory
    from PIL import Image

    steps: list[str] = []

    def guard(request: Any) -> None:
        """Raise PermissionError for hosts that are not allowed, and report the steps of the paid request."""
        url = urlsplit(str(request.url))
        host = str(url.hostname)
        allowed = url.scheme == "https" and any(host == name or host.endswith(f".{name}") for name in job["hosts"])
        if not allowed and f"{url.scheme}://{url.netloc}" not in job["origins"]:
            raise PermissionError(f"{host} is not one of the hosts that are allowed")
        step = "sent" if request.method == "POST" else "accepted" if steps else ""
        if step and step not in steps:
            steps.append(step)
            write_message({"step": step})

    # Pillow raises an error above twice this value.
    Image.MAX_IMAGE_PIXELS = job["pixels"] // 2 + 1
    if job["url"]:
        constants.INFERENCE_PROXY_TEMPLATE = job["url"] + "/{provider}"
    # The client class depends on the version of huggingface_hub.
    client_class: Any = type(get_session())

    class RetryingClient(client_class):
        """HTTP client that retries GET requests after errors of the service, until the process is killed."""

        def send(self, request: Any, **options: Any) -> Any:
            pause = BACKOFF
            while True:
                response = super().send(request, **options)
                if request.method != "GET" or response.status_code < 500 or _failed_job(response):
                    return response
                response.close()
                time.sleep(pause)
                pause = min(2 * pause, MAX_BACKOFF)

    set_client_factory(lambda: RetryingClient(event_hooks={"request": [guard]}, timeout=job["seconds"], trust_env=False))
    try:
        client = InferenceClient(provider="fal-ai", api_key=job["token"], timeout=job["seconds"])
        parts = client.image_segmentation(photo, model=MODEL)
    except PermissionError as error:
        return {"error": "host", "text": str(error)}
    except huggingface_hub.errors.InferenceTimeoutError:
        return {"error": "timeout"}
    except huggingface_hub.errors.HfHubHTTPError as error:
        return {"error": "http", "status": getattr(error.response, "status_code", 0), "text": _text(error.response)}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": "response", "text": str(error)[:300]}
    except OSError as error:
        return {"error": "connection", "text": type(error).__name__}
    except Exception as error:  # httpx errors, whose module depends on the version of huggingface_hub
        return {"error": "connection" if "httpx" in type(error).__module__ else "response", "text": type(error).__name__}
    if not parts or parts[0].mask is None:
        return {"error": "response", "text": "no picture"}
    out = io.BytesIO()
    picture: Any = parts[0].mask  # annotated as str, but a PIL image
    picture.save(out, "PNG", compress_level=1)
    if out.tell() > job["limit"]:
        return {"error": "response", "text": "a picture that is too large"}
    return {"image": base64.b64encode(out.getvalue()).decode()}


def _failed_job(response: Any) -> bool:
    """True if an error response is the outcome of the job, in fal's format, rather than an error of a gateway."""
    try:
        response.read()
        body = response.json()
    except Exception:
        return False
    return isinstance(body, dict) and ("error_type" in body or isinstance(body.get("detail"), list))


def _text(response: Any) -> str:
    """Return the beginning of the body of an error response."""
    try:
        return str(response.text)[:2000]
    except Exception:  # the body was not read
        return ""


def write_message(message: dict[str, Any]) -> None:
    """Write one message to standard output."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
