"""Several providers on one photo: all of them answer, and how far they agree."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from scipy import ndimage

from rmbg.benchmark.metrics import SOFT, band_width, boundary, iou
from rmbg.cutout import Cost, Cutout
from rmbg.errors import NotReadyError, OptionError, RmbgError
from rmbg.photo import Photo, open_photo
from rmbg.prices import monthly
from rmbg.providers import Provider, find
from rmbg.providers.base import Call, never, silent
from rmbg.settings import Settings

log = logging.getLogger(__name__)

#: Colours of the difference map: what only the first cutout keeps, and what only the second.
FIRST, SECOND = (255, 92, 60), (48, 140, 255)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one provider: a cutout, or a sentence about why there is none and what was spent all the same."""

    provider: str
    cutout: Cutout | None
    error: str = ""
    spent: Cost | None = None

    @property
    def title(self) -> str:
        return find(self.provider).info.title


def chosen(ids: Sequence[str], settings: Settings) -> list[Provider]:
    """The providers of these ids, each once; ``auto`` is the best free one that is ready.

    Raises
    ------
    OptionError
        If there is none, or no such provider.
    """
    found = {provider.info.id: provider for provider in (find(name, settings) for name in ids)}
    if not found:
        raise OptionError("Choose at least one provider to compare.")
    return list(found.values())


def expected_usd(providers: Sequence[Provider]) -> tuple[Decimal, list[str]]:
    """What one photo is expected to cost at those that charge, and the titles of those whose price nobody knows."""
    remote = [provider.info for provider in providers if provider.info.kind == "remote"]
    known = [info.price_usd for info in remote if info.price_usd is not None]
    return sum(known, Decimal(0)), [info.title for info in remote if info.price_usd is None]


def compare(
    source: Any,
    ids: Sequence[str],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    keys: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    progress: Callable[[float | None, str], None] = silent,
    cancelled: Callable[[], bool] = never,
) -> Iterator[Outcome]:
    """Ask all providers for a cutout of the same photo; yields an outcome for each, in the order in which they come.

    Local providers run one after the other, as they share the device; remote ones at the same time. One that fails stops
    no other. Stopping the iteration, or `cancelled`, stops those that are not ready yet.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    ids : sequence of str
        Providers.
    options : mapping of provider id to options, optional
    keys : mapping of provider id to key, optional
    progress : callable (fraction, text)
        Called from several threads.

    Raises
    ------
    InputError
        If photo, providers or options cannot be used; before anything is sent.
    """
    settings = settings or Settings.from_environ()
    providers = chosen(ids, settings)
    checked = {p.info.id: p.info.parse_options((options or {}).get(p.info.id, {})) for p in providers}
    photo = open_photo(source, settings=settings)
    return _answers(photo, providers, checked, keys or {}, settings, progress, cancelled)


def _answers(
    photo: Photo,
    providers: list[Provider],
    options: Mapping[str, Mapping[str, Any]],
    keys: Mapping[str, str],
    settings: Settings,
    progress: Callable[[float | None, str], None],
    cancelled: Callable[[], bool],
) -> Iterator[Outcome]:
    stop = threading.Event()
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def ask(provider: Provider) -> None:
        info = provider.info
        call = Call(
            settings,
            keys.get(info.id),
            lambda fraction, text: progress(fraction, f"{info.title}: {text}"),
            lambda: stop.is_set() or cancelled(),
        )
        try:
            call.check()
            status = provider.status(settings)
            if not status.usable and not call.key:
                raise NotReadyError(f"{info.title} is not ready: {status.text}.")
            outcomes.put(Outcome(info.id, provider.cut(photo, options[info.id], call)))
        except RmbgError as error:
            outcomes.put(Outcome(info.id, None, str(error), error.cost))
        except Exception:  # a fault of one must not take the others' results away
            log.exception("%s failed", info.id)
            outcomes.put(Outcome(info.id, None, f"{info.title} failed for a reason that the log has."))

    def ask_all(those: list[Provider]) -> None:
        for provider in those:
            ask(provider)

    pool = ThreadPoolExecutor(len(providers), thread_name_prefix="compare")
    try:
        pool.submit(ask_all, [p for p in providers if p.info.kind == "local"])
        for provider in providers:
            if provider.info.kind == "remote":
                pool.submit(ask, provider)
        for _ in providers:
            yield outcomes.get()
    finally:
        stop.set()
        pool.shutdown(wait=False)


def difference(first: np.ndarray, second: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Where two mattes differ: the photo in faint grey, in `FIRST` what only the first keeps, in `SECOND` what only the second.

    Parameters
    ----------
    first, second : float arrays (H, W)
        Alpha in [0, 1].
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    uint8 array (H, W, 3)
    """
    grey = (rgb @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    faint = 150 + 0.35 * grey
    gap = (first - second)[..., None]
    colour = np.where(gap > 0, np.array(FIRST, np.float32), np.array(SECOND, np.float32))
    # The root lifts small differences, which along edges are all there is, out of the grey.
    strength = np.sqrt(np.abs(gap))
    return (faint + strength * (colour - faint) + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Agreement:
    """A line of the comparison's table.

    Attributes
    ----------
    outcome : Outcome
    usd_100000 : Decimal or None
        For 100,000 pictures.
    iou : float or None
        Overlap with the reference's mask, 0 to 100.
    edge_difference : float or None
        Mean difference of alpha from the reference in the band around its boundary, 0 to 100; None where it has none.
    soft : float or None
        Share of the picture with alpha between out and in, 0 to 100.
    """

    outcome: Outcome
    usd_100000: Decimal | None = None
    iou: float | None = None
    edge_difference: float | None = None
    soft: float | None = None


def agreement(outcomes: Sequence[Outcome], reference: str) -> list[Agreement]:
    """How far each cutout agrees with that of the provider `reference`; those that failed have empty lines."""
    against = next((o.cutout.matte for o in outcomes if o.provider == reference and o.cutout is not None), None)
    band = None if against is None else edge_band(against)
    return [_line(outcome, against, band) for outcome in outcomes]


def _line(outcome: Outcome, against: np.ndarray | None, band: np.ndarray | None) -> Agreement:
    if outcome.cutout is None:
        return Agreement(outcome)
    matte = outcome.cutout.matte
    soft = 100 * float(((matte > SOFT[0]) & (matte < SOFT[1])).mean())
    price = monthly(outcome.cutout.cost)
    if against is None or band is None:
        return Agreement(outcome, price, soft=soft)
    near = 100 * float(np.abs(matte - against)[band].mean()) if band.any() else None
    return Agreement(outcome, price, iou(matte, against), near, soft)


def edge_band(matte: np.ndarray) -> np.ndarray:
    """Pixels near the boundary of a matte, as edge quality takes them: bool (H, W)."""
    edge = boundary(matte > 0.5)
    if not edge.any():
        return edge
    return ndimage.distance_transform_edt(~edge) <= band_width(matte.shape)
