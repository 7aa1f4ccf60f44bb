"""The part of the Hugging Face provider that runs in a process of its own.

huggingface_hub's client waits for a job for as long as it takes, without a deadline and without a way to stop it, and follows
addresses that it is given. A process can be ended, and in one of its own the client can be told what it may connect to
without telling the rest of the program.

On standard input: one line of JSON with token, url, origins, hosts, seconds, limit and pixels, then the photo. On standard
output: lines of JSON, ``{"step": "sent"}`` when the request leaves, ``{"step": "taken"}`` when the answer to it is followed
up, and last ``{"image": base64}`` or ``{"error": ..., "text": ...}``. Nothing of the package is imported: starting is quick.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

MODEL = "briaai/RMBG-2.0"


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    photo = sys.stdin.buffer.read()
    # Whoever started this ends it; if that is gone, so is this soon after.
    last = threading.Timer(order["seconds"] + 5, os._exit, (1,))
    last.daemon = True
    last.start()
    # Before the import: whose token it is and where the hub is are read there.
    os.environ |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if order["url"]:
        os.environ["HF_ENDPOINT"] = order["url"]
    say(answer(order, photo))


def answer(order: dict[str, Any], photo: bytes) -> dict[str, Any]:
    """The result of one photo, or what went wrong."""
    import huggingface_hub
    from huggingface_hub import InferenceClient, constants
    from huggingface_hub.utils import get_session, set_client_factory
    from PIL import Image

    steps: list[str] = []

    def guard(request: Any) -> None:
        """Nothing leaves for hosts that have no business here."""
        url = urlsplit(str(request.url))
        host = str(url.hostname)
        known = url.scheme == "https" and any(host == name or host.endswith(f".{name}") for name in order["hosts"])
        if not known and f"{url.scheme}://{url.netloc}" not in order["origins"]:
            raise PermissionError(f"{host} is not one of the hosts that this may be fetched from")
        step = "sent" if request.method == "POST" else "taken" if steps else ""
        if step and step not in steps:
            steps.append(step)
            say({"step": step})

    # Pillow refuses twice of this.
    Image.MAX_IMAGE_PIXELS = order["pixels"] // 2 + 1
    if order["url"]:
        constants.INFERENCE_PROXY_TEMPLATE = order["url"] + "/{provider}"
    # The class of the client differs between versions of the hub: httpx at first, httpx2 later.
    kind = type(get_session())
    set_client_factory(lambda: kind(event_hooks={"request": [guard]}, timeout=order["seconds"], trust_env=False))
    try:
        client = InferenceClient(provider="fal-ai", api_key=order["token"], timeout=order["seconds"])
        parts = client.image_segmentation(photo, model=MODEL)
    except PermissionError as error:
        return {"error": "place", "text": str(error)}
    except huggingface_hub.errors.InferenceTimeoutError:
        return {"error": "timeout"}
    except huggingface_hub.errors.HfHubHTTPError as error:
        return {"error": "http", "status": getattr(error.response, "status_code", 0), "text": _text(error.response)}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": "answer", "text": str(error)[:300]}
    except OSError as error:
        return {"error": "connection", "text": type(error).__name__}
    except Exception as error:  # the two httpx have trees of their own
        return {"error": "connection" if "httpx" in type(error).__module__ else "answer", "text": type(error).__name__}
    if not parts or parts[0].mask is None:
        return {"error": "answer", "text": "no picture"}
    out = io.BytesIO()
    picture: Any = parts[0].mask  # declared as text, replaced by a PIL image
    picture.save(out, "PNG", compress_level=1)
    if out.tell() > order["limit"]:
        return {"error": "answer", "text": "a picture that is too large"}
    return {"image": base64.b64encode(out.getvalue()).decode()}


def _text(response: Any) -> str:
    try:
        return str(response.text)[:2000]
    except Exception:  # the body of a response that was not read
        return ""


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
