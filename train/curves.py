"""Plot the log of a training: ``python -m train.curves out/train`` writes ``curves.svg`` beside it."""

import argparse
import csv
import json
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 720, 300, 44
LOSS_COLOR, IOU_COLOR, GRID_COLOR = "#c2410c", "#1d4ed8", "#cbd5e1"


def points(xs: list[float], ys: list[float], duration: float) -> str:
    """Points of a polyline for x in [0, duration] and y in [0, 1]; larger values are clipped."""
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    pairs = zip(xs, ys, strict=True)
    return " ".join(f"{MARGIN + x / duration * width:.1f},{HEIGHT - MARGIN - min(y, 1) * height:.1f}" for x, y in pairs)


def draw(log: list[list[str]], held_out: list[dict[str, float]]) -> str:
    """Draw the loss, the held-out IoU and the resolution over time as SVG.

    Parameters
    ----------
    log : list of rows
        Step, seconds, side, rate, loss.
    held_out : list of dict
        With ``seconds`` and ``iou``.
    """
    minutes = [float(row[1]) / 60 for row in log]
    duration = minutes[-1]
    text = "font-family='sans-serif' font-size='12'"
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {text}>"]
    parts.append(f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>")
    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f"<polyline points='{points([0, duration], [level, level], duration)}' stroke='{GRID_COLOR}'/>")
        x, y = points([0], [level], duration).split(",")
        parts.append(f"<text x='{float(x) - 6}' y='{float(y) + 4}' text-anchor='end'>{level}</text>")
    changes = [row for row, previous in zip(log, [["", "", "", "", ""], *log], strict=False) if row[2] != previous[2]]
    for number, row in enumerate(changes):
        x = float(points([float(row[1]) / 60], [0], duration).split(",")[0])
        parts.append(f"<line x1='{x}' x2='{x}' y1='{MARGIN}' y2='{HEIGHT - MARGIN}' stroke='{GRID_COLOR}'/>")
        parts.append(f"<text x='{x + 2}' y='{MARGIN - 5 - number % 3 * 11}' font-size='10'>{row[2]}</text>")
    loss = points(minutes, [float(row[4]) for row in log], duration)
    iou = points([row["seconds"] / 60 for row in held_out], [row["iou"] for row in held_out], duration)
    parts.append(f"<polyline points='{loss}' fill='none' stroke='{LOSS_COLOR}' stroke-width='1.5'/>")
    parts.append(f"<polyline points='{iou}' fill='none' stroke='{IOU_COLOR}' stroke-width='2'/>")
    parts.append(f"<text x='{MARGIN}' y='{HEIGHT - 12}' fill='{LOSS_COLOR}'>loss of the matte</text>")
    parts.append(f"<text x='{MARGIN + 130}' y='{HEIGHT - 12}' fill='{IOU_COLOR}'>IoU on held-out pictures</text>")
    parts.append(f"<text x='{MARGIN + 310}' y='{HEIGHT - 12}'>above: side of the input in pixels</text>")
    parts.append(f"<text x='{WIDTH - MARGIN}' y='{HEIGHT - 12}' text-anchor='end'>{duration:.0f} minutes</text>")
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with (folder / "log.csv").open(newline="") as file:
        log = list(csv.reader(file))
    held_out = [json.loads(line) for line in (folder / "held_out.jsonl").read_text().splitlines()]
    (folder / "curves.svg").write_text(draw(log, held_out))


if __name__ == "__main__":
    main()
