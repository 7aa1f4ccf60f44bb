"""A comparison as files: a contact sheet, a zip of all cut-outs, the table as CSV."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rmbg.benchmark.thumbnails import checkerboard
from rmbg.compare import Agreement, Outcome
from rmbg.compose import TRANSPARENT, Background, blend, render
from rmbg.encode import FORMATS, encode

#: Longest side of a pane on the contact sheet, the gap between panes, the height of a label, panes a row at most.
PANE, GAP, LABEL, COLUMNS = 520, 20, 58, 4

#: Width that a pane's label has, however narrow the photo is.
LABEL_WIDTH = 160
PAPER, INK, QUIET = (255, 255, 255), (27, 36, 48), (86, 98, 115)


def contact_sheet(outcomes: Sequence[Outcome], background: Background = TRANSPARENT) -> bytes:
    """The photo and every cut-out on the same background, named, with seconds and cost: a PNG.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one with a cutout.
    background : Background
        A transparent one is shown as a checkerboard.
    """
    made = [(outcome, outcome.cutout) for outcome in outcomes if outcome.cutout is not None]
    photo = made[0][1].photo
    panes = [(_shown(photo.flattened()), "Photo", f"{photo.width} x {photo.height}")]
    for outcome, cutout in made:
        panes.append((_shown(render(cutout, background)), outcome.title, f"{cutout.seconds:.2f} s, {cutout.cost}"))
    width, height = max(LABEL_WIDTH, panes[0][0].width), panes[0][0].height
    rows = -(-len(panes) // COLUMNS)
    columns = -(-len(panes) // rows)  # rows of about equal length
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + LABEL + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(20), ImageFont.load_default(16)
    for i, (pane, title, line) in enumerate(panes):
        left, top = GAP + i % columns * (width + GAP), GAP + i // columns * (height + LABEL + GAP)
        sheet.paste(pane, (left, top))
        draw.text((left, top + height + 8), _fitting(title, large, width), INK, large)
        draw.text((left, top + height + 33), _fitting(line, small, width), QUIET, small)
    return encode(np.asarray(sheet), FORMATS["png"])


def _shown(pixels: np.ndarray) -> Image.Image:
    """A pane: at most `PANE` pixels a side, transparent parts on a checkerboard."""
    image = Image.fromarray(pixels)
    image.thumbnail((PANE, PANE), Image.Resampling.LANCZOS, reducing_gap=None)
    if image.mode != "RGBA":
        return image
    small = np.asarray(image)
    alpha = small[..., 3].astype(np.float32) / np.float32(255)
    return Image.fromarray(blend(small[..., :3], alpha, checkerboard(image.height, image.width, 12)))


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, its end cut off where it is too long for a label."""
    if font.getlength(text) <= width:
        return text
    cut = next((end for end in range(len(text) - 1, 0, -1) if font.getlength(f"{text[:end]}…") <= width), 0)
    return f"{text[:cut].rstrip()}…"


def cutouts_zip(outcomes: Iterable[Outcome], background: Background = TRANSPARENT) -> bytes:
    """All cut-outs at full size as PNG in one zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # a PNG does not get smaller
        for outcome in outcomes:
            if outcome.cutout is not None:
                name = f"{outcome.cutout.photo.name}-{outcome.provider}.png"
                archive.writestr(name, encode(render(outcome.cutout, background), FORMATS["png"]))
    return out.getvalue()


def table_csv(lines: Sequence[Agreement], reference: str) -> str:
    """The table of a comparison; what nobody knows stays empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["provider", "seconds", "engine", "device", "usd", "basis", "usd_100000"]
    writer.writerow([*head, f"iou_with_{reference}", f"edge_difference_from_{reference}", "soft_percent", "error"])
    for line in lines:
        cutout = line.outcome.cutout
        about = ["", "", "", "", "unknown"]
        if cutout is not None:
            usd = "" if cutout.cost.usd is None else f"{cutout.cost.usd:f}"
            about = [f"{cutout.seconds:.3f}", cutout.engine, cutout.device, usd, cutout.cost.basis]
        figures = ["" if value is None else f"{value:.3f}" for value in (line.iou, line.edge_difference, line.soft)]
        price = "" if line.usd_100000 is None else f"{line.usd_100000:f}"
        writer.writerow([line.outcome.provider, *about, price, *figures, line.outcome.error])
    return out.getvalue()
