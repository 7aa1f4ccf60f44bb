"""The result as HTML: before and after under one handle, on a checkerboard. Pictures travel inside the page, not as files."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

import numpy as np

from rmbg import encode
from rmbg.cutout import Cutout
from rmbg.ui.session import Result, Session
from rmbg.ui.spend import projection

#: What the visitor is told when the fault is ours; the log has the rest.
OUR_FAULT = "Something went wrong on this side; please try again. If it stays so, another provider may work."

EMPTY = (
    '<div class="viewer empty"><div class="invitation"><strong>The cut-out appears here</strong>'
    "<span>Drop a photo, paste one, or take one of the examples, then press <em>Remove background</em>.</span>"
    "</div></div>"
)


def data_uri(pixels: np.ndarray) -> str:
    """Pixels as a data URI that every browser shows: JPEG where opaque, else WebP."""
    name = "webp-lossy" if pixels.ndim == 3 and pixels.shape[2] == 4 else "jpeg"
    form = encode.FORMATS[name]
    return f"data:{form.mime};base64,{base64.b64encode(encode.encode(pixels, form, quality=88, quick=True)).decode()}"


def compare(before: np.ndarray, after: np.ndarray, label: str, before_label: str = "The photo before") -> str:
    """Two pictures of one size under a handle; the handle is a range input, so keys and screen readers can move it."""
    height, width = after.shape[:2]
    return (
        f'<div class="viewer" style="--ratio:{width}/{height}">'
        '<div class="stage">'
        f'<img class="after" alt="{html.escape(label)}" src="{data_uri(after)}">'
        f'<img class="before" alt="{html.escape(before_label)}" src="{data_uri(before)}">'
        '<span class="divider" aria-hidden="true"></span>'
        '<input class="split" type="range" min="0" max="100" step="0.5" value="0" '
        'aria-label="Before and after: how much of the photo is shown" oninput="rmbgSplit(this)">'
        "</div></div>"
    )


def facts(result: Result, title: str) -> str:
    """The line under the picture: provider, seconds, size, cost and its basis, engine, and the notes."""
    cutout: Cutout = result.preview
    parts = [
        title,
        f"{cutout.seconds:.2f} s",
        f"{result.width} × {result.height}",
        ", ".join(part for part in (str(cutout.cost), projection(cutout.cost)) if part),
        " ".join(p for p in (cutout.engine, cutout.device, cutout.precision) if p),
    ]
    line = "".join(f"<span>{html.escape(part)}</span>" for part in parts if part)
    return f'<div class="facts">{line}</div>{notes(cutout.notes)}'


def total(session: Session) -> str:
    """What the visit has cost so far."""
    return f'<div class="total">{html.escape(session.spend.line())}</div>'


def notice(message: str, kind: str = "error") -> str:
    """A sentence for the user, read out by screen readers at once; nothing for an empty one."""
    if not message:
        return ""
    role = "alert" if kind == "error" else "status"
    return f'<div class="notice {kind}" role="{role}">{html.escape(message)}</div>'


def notes(texts: Iterable[str]) -> str:
    """Notes, one below the other."""
    return "".join(f'<div class="note">{html.escape(text)}</div>' for text in texts)
