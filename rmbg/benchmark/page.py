"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from html import escape
from pathlib import Path

from rmbg.benchmark.journal import Result
from rmbg.benchmark.metrics import METRICS, Metric
from rmbg.benchmark.plots import Point, scatter
from rmbg.benchmark.published import PUBLISHED, SOURCE
from rmbg.benchmark.summary import PictureRow, Row, Summary, money
from rmbg.providers import PROVIDERS

SCORES, FIELD = METRICS[:4], METRICS[4:]

#: Nothing but what is in the file itself may be loaded or run.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

Thumbnails = dict[str, str | None]


def page(
    summary: Summary, machine: dict[str, str], made: str, thumbnails: Callable[[PictureRow], Thumbnails], limit: int
) -> str:
    """The whole page.

    Parameters
    ----------
    summary : Summary
    machine : dict of str to str
    made : str
        When.
    thumbnails : callable
        Data URIs of a picture by provider; those of the photo and of its truth by ``photo`` and ``truth``.
    limit : int
        Pictures to show, from the worst on.
    """
    count = len(summary.dataset.samples)
    title = f"Benchmark: {summary.dataset.name}"
    categories = ", ".join(summary.categories)
    providers = f"{len(summary.rows)} provider{'s' if len(summary.rows) > 1 else ''}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{count:,} pictures ({escape(categories)}), {providers}, {escape(made)}</p>',
        _leaderboard(summary),
        _published(),
        _plots(summary.rows),
        _categories(summary),
        _field(summary.rows),
        _pictures(summary, thumbnails, limit),
        _machine(summary, machine),
    ]
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n{content}\n</main></body></html>\n"
    )


def provider_title(name: str) -> str:
    return PROVIDERS[name].info.title if name in PROVIDERS else name


def number(metric: Metric, value: float | None) -> str:
    """A figure as the tables show it; a dash where it does not apply."""
    return "–" if value is None else f"{value:.{metric.decimals}f}"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    """A table whose first cell in each row is its heading; cells are ``<td>`` elements."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    body = "".join(f'<tr><th scope="row">{escape(row[0])}</th>{"".join(row[1:])}</tr>' for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figures(rows: tuple[Row, ...], metrics: tuple[Metric, ...]) -> list[list[str]]:
    """Cells of several providers, the best of each column marked."""
    best = {}
    for metric in metrics:
        values = [value for row in rows if (value := row.means[metric.id]) is not None]
        best[metric.id] = (max if metric.more_is_better else min)(values) if len(values) > 1 else None
    cells = []
    for row in rows:
        line = []
        for metric in metrics:
            value = row.means[metric.id]
            mark = ' class="best"' if value is not None and value == best[metric.id] else ""
            few = row.applies[metric.id] < row.measured and value is not None
            note = f"<small>{row.applies[metric.id]} pictures</small>" if few else ""
            line.append(f"<td{mark}>{number(metric, value)}{note}</td>")
        cells.append(line)
    return cells


def _leaderboard(summary: Summary) -> str:
    rows: list[list[str]] = []
    for row, cells in zip(summary.rows, _figures(summary.rows, SCORES), strict=True):
        composite = row.means["composite"]
        if composite is not None and row.interval is not None:
            low, high = row.interval
            text = f"<b>{composite:.1f}</b><small>{low:.1f} to {high:.1f}</small>"
            cells[0] = f'<td class="bar" style="--part:{composite:.0f}%">{text}</td>'
        seconds = "–" if row.seconds is None else f"{row.seconds:.2f}"
        failed = f"<small>{row.failed} failed</small>" if row.failed else ""
        rows.append(
            [
                f"{len(rows) + 1}. {provider_title(row.provider)}",
                *cells,
                f"<td>{seconds}<small>{escape(row.runs_on)}</small></td>",
                f"<td>{money(row.usd)}<small>{escape(row.basis)}</small></td>",
                f"<td>{money(row.monthly_usd)}</td>",
                f"<td>{row.measured} of {row.pictures}{failed}</td>",
            ]
        )
    headings = ["Provider", *(m.title for m in SCORES), "Seconds", "Cost a picture", "100,000 a month", "Pictures"]
    return (
        "<section><h2>Leaderboard</h2>"
        '<p class="note">Scores from 0 to 100, means over the pictures; under the composite its 95% interval by bootstrap over '
        "the pictures. Seconds are the median of one picture, from photo to cut-out.</p>"
        + _table(headings, rows)
        + "</section>"
    )


def _published() -> str:
    categories = list(PUBLISHED[0].categories)
    rows = [
        [
            item.title,
            f"<td>{item.composite}</td>",
            *(f"<td>{item.categories[category]}</td>" for category in categories),
            f"<td>{money(item.usd)}</td>",
            f"<td>{money(item.usd * 100_000)}</td>",
        ]
        for item in PUBLISHED
    ]
    table = _table(["Service", "Composite", *categories, "Cost a picture", "100,000 a month"], rows)
    return (
        '<section class="published"><h2>Published elsewhere, not measured here</h2>'
        f'<p class="note">{escape(SOURCE)} For orientation only: other pictures, other formulas.</p>{table}</section>'
    )


def _plots(rows: tuple[Row, ...]) -> str:
    def plot(title: str, x_title: str, value: Callable[[Row], float | Decimal | None], tick: Callable[[float], str]) -> str:
        found = [(str(rank), row, value(row), row.means["composite"]) for rank, row in enumerate(rows, 1)]
        points = [Point(mark, provider_title(row.provider), float(x), y) for mark, row, x, y in found if x and y is not None]
        drawn = scatter(points, title=title, x_title=x_title, y_title="composite", tick=tick) if points else ""
        legend = ", ".join(f"<b>{point.mark}</b> {escape(point.label)}" for point in points)
        missing = ", ".join(provider_title(row.provider) for _, row, x, y in found if not x or y is None)
        note = f'<p class="note">Not shown, as a figure is missing: {escape(missing)}.</p>' if missing else ""
        return f"<section><h2>{escape(title)}</h2>{drawn}<p>{legend}</p>{note}</section>"

    return (
        '<div class="plots">'
        + plot("Quality against cost", "US dollars for 100,000 pictures", lambda row: row.monthly_usd, lambda x: f"${x:,.10g}")
        + plot("Quality against time", "seconds a picture", lambda row: row.seconds, lambda x: f"{x:,.10g}")
        + "</div>"
    )


def _categories(summary: Summary) -> str:
    lines = []
    for name in summary.providers:
        line = [provider_title(name)]
        for rows in summary.categories.values():
            row = next(row for row in rows if row.provider == name)
            mark = ' class="best"' if len(rows) > 1 and row is rows[0] else ""
            line.append(f"<td{mark}>{number(SCORES[0], row.means['composite'])}<small>{_parts(row.means)}</small></td>")
        lines.append(line)
    headings = [f"{category} ({rows[0].pictures:,})" for category, rows in summary.categories.items()]
    return f"<section><h2>By category</h2>{_table(['Composite', *headings], lines)}</section>"


def _parts(figures: dict[str, float | None]) -> str:
    """``IoU 96.9, edge 86.0``: the parts of a composite that apply."""
    short = {"iou": "IoU", "edge": "edge", "transparency": "transparency"}
    return ", ".join(f"{short[m.id]} {number(m, figures[m.id])}" for m in SCORES[1:] if figures.get(m.id) is not None)


def _field(rows: tuple[Row, ...]) -> str:
    lines = [[provider_title(row.provider), *cells] for row, cells in zip(rows, _figures(rows, FIELD), strict=True)]
    headings = ["Provider", *(f"{metric.title} {'↑' if metric.more_is_better else '↓'}" for metric in FIELD)]
    return (
        "<section><h2>The field’s own measures</h2>"
        '<p class="note">Means over the pictures; ↑ more is better, ↓ less is better. '
        "SAD, gradient and connectivity are sums in thousands.</p>" + _table(headings, lines) + "</section>"
    )


def _pictures(summary: Summary, thumbnails: Callable[[PictureRow], Thumbnails], limit: int) -> str:
    shown = summary.pictures[:limit]
    rest = len(summary.pictures) - len(shown)
    more = f" The other {rest:,} are in the CSV." if rest else ""
    parts = [f'<section><h2>Pictures, worst first</h2><p class="note">By the mean composite of all providers.{more}</p>']
    for picture in shown:
        small = thumbnails(picture)
        strip = [_figure(small["photo"], "photo"), _figure(small["truth"], "truth")]
        strip += [_answer(name, picture.results.get(name), small.get(name)) for name in summary.providers]
        mean = "–" if picture.composite is None else f"{picture.composite:.1f}"
        parts.append(
            f'<div class="picture"><div><h3>{escape(picture.sample.stem)}</h3>'
            f'<span class="quiet">{escape(picture.sample.category)}, {mean}</span></div>'
            f'<div class="strip">{"".join(strip)}</div></div>'
        )
    return "".join([*parts, "</section>"])


def _figure(uri: str | None, caption: str, missing: str = "") -> str:
    image = f'<img src="{uri}" alt="">' if uri else f'<div class="missing">{escape(missing)}</div>'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _answer(name: str, result: Result | None, uri: str | None) -> str:
    title = escape(provider_title(name))
    if result is None:
        return _figure(None, title, "not asked")
    if result.state == "sent":
        return _figure(None, title, "sent, no answer: charge unknown")
    if result.state == "failed":
        return _figure(None, title, result.message)
    scores = result.scores or {}
    caption = f"{title} <b>{number(SCORES[0], scores.get('composite'))}</b><br>{_parts(scores)}"
    return _figure(uri, caption, "no subject found")


def _machine(summary: Summary, machine: dict[str, str]) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in machine.items())
    models = "".join(
        f"<dt>{escape(provider_title(name))}</dt><dd>{escape(PROVIDERS[name].info.model)}</dd>"
        for name in summary.providers
        if name in PROVIDERS
    )
    return f"<section><h2>Made with</h2><dl>{pairs}{models}</dl></section>"
