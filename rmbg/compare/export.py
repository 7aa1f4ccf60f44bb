"""Exports of a comparison: contact sheet, zip archive of all cutouts, table as CSV."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rmbg.compare.agreement import Agreement
from rmbg.compare.comparison import Outcome
from rmbg.images.encode import FORMATS, encode
from rmbg.images.pixels import blend
from rmbg.providers import file_name
from rmbg.render.backgrounds import TRANSPARENT, Background
from rmbg.render.picture import checkerboard
from rmbg.runtime.telemetry import Timings

#: Layout of the contact sheet in pixels: longest side of a pane, gap between panes, height of a label.
PANE_SIDE, GAP, LABEL_HEIGHT = 520, 20, 58
MAX_COLUMNS = 4

#: Minimum width of a label; narrow photos get wider panes.
MIN_LABEL_WIDTH = 160

#: Phases of a run.
PHASES = tuple(field.name for field in fields(Timings))

SHEET_COLOR, TITLE_COLOR, DETAIL_COLOR = (255, 255, 255), (27, 36, 48), (86, 98, 115)


def contact_sheet(outcomes: Sequence[Outcome], background: Background = TRANSPARENT) -> bytes:
    """Render the photo and all cutouts in a grid, labeled with provider, seconds and cost; returns a PNG.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one with a cutout; failed ones are left out.
    background : Background
        Background of all cutouts. A transparent one is shown as a checkerboard.
    """
    cutouts = [(outcome.title, outcome.cutout) for outcome in outcomes if outcome.cutout is not None]
    photo = cutouts[0][1].photo
    panes = [(_pane(photo.flattened()), "Photo", f"{photo.width} x {photo.height}")]
    panes += [(_pane(c.render(background)), title, f"{c.warm_seconds:.2f} s, {c.cost}") for title, c in cutouts]
    width, height = max(MIN_LABEL_WIDTH, panes[0][0].width), panes[0][0].height
    rows = -(-len(panes) // MAX_COLUMNS)
    columns = -(-len(panes) // rows)  # rows of about equal length
    size = GAP + columns * (width + GAP), GAP + rows * (height + LABEL_HEIGHT + GAP)
    sheet = Image.new("RGB", size, SHEET_COLOR)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(20), ImageFont.load_default(16)
    for i, (pane, title, details) in enumerate(panes):
        left, top = GAP + i % columns * (width + GAP), GAP + i // columns * (height + LABEL_HEIGHT + GAP)
        sheet.paste(pane, (left, top))
        draw.text((left, top + height + 8), _truncate(title, large, width), TITLE_COLOR, large)
        draw.text((left, top + height + 33), _truncate(details, small, width), DETAIL_COLOR, small)
    return encode(np.asarray(sheet), FORMATS["png"])


def _pane(pixels: np.ndarray) -> Image.Image:
    """An image of at most `PANE_SIDE` pixels a side, with a checkerboard behind transparent parts."""
    image = Image.fromarray(pixels)
    image.thumbnail((PANE_SIDE, PANE_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    if image.mode != "RGBA":
        return image
    small = np.asarray(image)
    alpha = small[..., 3].astype(np.float32) / np.float32(255)
    return Image.fromarray(blend(small[..., :3], alpha, checkerboard(image.height, image.width, 12)))


def _truncate(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, shortened with an ellipsis if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    end = next((end for end in range(len(text) - 1, 0, -1) if font.getlength(f"{text[:end]}…") <= width), 0)
    return f"{text[:end].rstrip()}…"


def cutouts_zip(outcomes: Iterable[Outcome], background: Background = TRANSPARENT) -> bytes:
    """Zip archive of all cutouts as PNG at full size; failed outcomes are left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for outcome in outcomes:
            if outcome.cutout is not None:
                name = f"{outcome.cutout.photo.name}-{file_name(outcome.provider)}.png"
                archive.writestr(name, encode(outcome.cutout.render(background), FORMATS["png"]))
    return out.getvalue()


def table_csv(lines: Sequence[Agreement], reference: str) -> str:
    """The table of a comparison as CSV; unknown values are empty.

    ``seconds`` are those that every picture takes. The last columns have the seconds of each phase of this one.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["provider", "seconds", "engine", "device", "usd", "basis", "usd_100000"]
    scores = [f"iou_with_{reference}", f"edge_difference_from_{reference}", "soft_percent"]
    writer.writerow([*head, *scores, "error", *(f"{phase}_seconds" for phase in PHASES)])
    for line in lines:
        cutout = line.outcome.cutout
        run, phases = ["", "", "", "", "unknown"], [""] * len(PHASES)
        if cutout is not None:
            usd = "" if cutout.cost.usd is None else f"{cutout.cost.usd:f}"
            run = [f"{cutout.warm_seconds:.3f}", cutout.engine, cutout.device, usd, cutout.cost.basis]
            if cutout.timings is not None:
                phases = [f"{seconds:.3f}" for seconds in asdict(cutout.timings).values()]
        usd_100000 = "" if line.usd_100000 is None else f"{line.usd_100000:f}"
        figures = ["" if value is None else f"{value:.3f}" for value in (line.iou, line.edge_difference, line.soft)]
        writer.writerow([line.outcome.provider, *run, usd_100000, *figures, line.outcome.error, *phases])
    return out.getvalue()
