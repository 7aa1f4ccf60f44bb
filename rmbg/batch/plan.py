"""What a batch does: the recipe of its results, the cached mattes of paid calls, and the tasks that remain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rmbg.batch.manifest import Item, Manifest
from rmbg.batch.outputs import Output
from rmbg.batch.sources import Entry, unique_targets
from rmbg.billing.cost import Cost
from rmbg.billing.quote import Quote, quote
from rmbg.cutout import Cutout, edge_facts
from rmbg.errors import OutputError, printable
from rmbg.images.encode import FORMATS, QUALITY, Format, check_size, encode
from rmbg.images.photo import Photo
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.foreground import finish
from rmbg.matting.matte import to_bytes
from rmbg.providers import Provider
from rmbg.providers.base import never_cancelled
from rmbg.render.backgrounds import CENTER, DOWN, TRANSPARENT, Background
from rmbg.render.finishing import UNFINISHED, Finishing
from rmbg.render.picture import View
from rmbg.runtime import files
from rmbg.settings import Settings


@dataclass(frozen=True, eq=False)
class Recipe:
    """Provider, options, rendering and format, the same for all photos of a batch.

    Attributes
    ----------
    provider : Provider
    options : mapping
        Complete options of the provider.
    form : Format
        Output format.
    background : Background
    view : str
    crop : float or None
    quality : int
        As for ``Cutout.save``.
    edges : EdgeSettings
    alpha_matting : AlphaMatting or None
        Applied to all mattes.
    finishing : Finishing
    """

    provider: Provider
    options: Mapping[str, Any]
    form: Format
    background: Background = TRANSPARENT
    view: View = "cutout"
    crop: float | None = None
    quality: int = QUALITY
    edges: EdgeSettings = UNCHANGED
    alpha_matting: AlphaMatting | None = None
    finishing: Finishing = UNFINISHED

    @property
    def paid(self) -> bool:
        """True if the provider is a remote service."""
        return self.provider.info.kind == "remote"

    @cached_property
    def inference(self) -> str:
        """Fingerprint of the settings that determine the matte."""
        return inference_of(self.provider, self.options)

    @cached_property
    def rendering(self) -> str:
        """Fingerprint of the settings that determine the file, given the matte."""
        background: Any = None
        if self.view == "cutout":
            image = self.background.image
            pixels = None if image is None else [image.shape, hashlib.sha256(image.tobytes()).hexdigest()]
            angle = [] if self.background.angle == DOWN else [self.background.angle]
            place = (self.background.fit, self.background.position)
            placed = [] if place == ("cover", CENTER) else [place]
            background = [self.background.kind, self.background.colors, pixels, *angle, *placed]
        # What is not set is left out, so that results of versions without it are kept.
        later = [facts for facts in (self.edge_facts, self._finishing_facts) if facts]
        return _fingerprint(self.form.id, self.quality if self.form.lossy else None, self.view, self.crop, background, *later)

    @property
    def _finishing_facts(self) -> dict[str, Any]:
        """What the finishing changes in the view."""
        facts = self.finishing.facts()
        return facts if self.view == "cutout" else {name: value for name, value in facts.items() if name == "canvas"}

    @property
    def edge_facts(self) -> dict[str, Any]:
        """Settings of the edge for the manifest and the summary."""
        return edge_facts(self.edges, self.alpha_matting)

    def quote(self, settings: Settings) -> Quote:
        """Return the expected price of one photo."""
        return quote(self.provider.info, self.options, settings)

    def check_photo(self, photo: Photo) -> None:
        """Raise OptionError if the format does not support the size of the photo; called before a paid call."""
        if self.crop is None and self.finishing.canvas is None:
            check_size(self.form, photo.width, photo.height)

    def encode(
        self, cutout: Cutout, cancelled: Callable[[], bool] = never_cancelled, settings: Settings | None = None
    ) -> bytes:
        """Render and encode a cutout; `settings` are by default those of the environment."""
        if self.alpha_matting is not None:
            cutout = cutout.refined(self.alpha_matting, cancelled=cancelled, environment=settings)
        pixels = cutout.cleaned(self.edges).render(self.background, view=self.view, crop=self.crop, finishing=self.finishing)
        return encode(pixels, self.form, quality=self.quality)

    def restore(self, photo: Photo, matte: np.ndarray, provider: Provider | None = None) -> Cutout:
        """Return a cutout of `provider`, by default that of the batch, from a cached matte, uint8 (H, W)."""
        alpha, foreground = finish(photo, matte.astype(np.float32) / np.float32(255), own_alpha_applied=True)
        name = (provider or self.provider).info.id
        return Cutout(photo, alpha, foreground, name, 0.0, Cost(None, "unknown"), notes=photo.notes)


def inference_of(provider: Provider, options: Mapping[str, Any]) -> str:
    """Fingerprint of a provider and its complete options, and of the files of own models."""
    return _fingerprint(provider.info.id, dict(options), *provider.checksums(options, Settings.from_environ()))


def _fingerprint(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


# Cache of the mattes of paid providers, keyed by the digest of the photo and the fingerprint of the inference settings.


class MatteCache:
    """Mattes as PNG files in one or more folders.

    Parameters
    ----------
    folders : sequence of Path
        In order of preference; a later folder is written to only if the earlier ones fail, as on a full disk.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def find(self, digest: str, inference: str) -> Path | None:
        """Return the file of a matte, or None if it is not cached."""
        return next((path for path in self._paths(digest, inference) if path.is_file()), None)

    def load(self, digest: str, inference: str, height: int, width: int) -> np.ndarray | None:
        """Return a matte, uint8 (H, W), or None if it is not cached, not readable or of another size."""
        path = self.find(digest, inference)
        if path is None:
            return None
        try:
            with Image.open(path, formats=["PNG"]) as image:
                matte = np.array(image.convert("L"))
        except (OSError, SyntaxError, ValueError):
            return None
        return matte if matte.shape == (height, width) else None

    def save(self, digest: str, inference: str, matte: np.ndarray) -> None:
        """Write a matte, float32 (H, W) in [0, 1], with 8 bits per pixel.

        Raises
        ------
        OutputError
            If none of the folders is writable.
        """
        data = encode(to_bytes(matte), FORMATS["png"])
        paths = self._paths(digest, inference)
        for path in paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write(path, data)
            except OSError as error:
                if path == paths[-1]:
                    raise OutputError(f"The paid result could not be saved: {error}") from None
            else:
                return

    def _paths(self, digest: str, inference: str) -> list[Path]:
        return [folder / digest[:2] / f"{digest[:32]}-{inference}.png" for folder in self._folders]


# Plan of a batch: the tasks that remain after a comparison of the inputs with the manifest.


@dataclass(frozen=True)
class Task:
    """One input to process.

    Attributes
    ----------
    entry : Entry
    item : Item
        Its state before the run.
    output : str
        Name of the result.
    intact : bool
        True if the result of an earlier run exists with the size in the manifest.
    """

    entry: Entry
    item: Item
    output: str
    intact: bool = False


@dataclass
class Plan:
    """Tasks of a batch and counts of the other inputs.

    Attributes
    ----------
    names : list of str
        Names of all inputs.
    tasks : list of Task
        Inputs to process; an input that may have changed is read, and skipped if its content is the same.
    kept : int
        Number of inputs with a current result.
    settled : int
        Number of inputs without a result that are not retried: no subject, or the attempt may have been charged.
    sends : int
        Expected number of photos sent to a paid service.
    notes : list of str
        Messages for the user before the start.
    """

    names: list[str] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    kept: int = 0
    settled: int = 0
    sends: int = 0
    notes: list[str] = field(default_factory=list)


def make_plan(
    entries: Sequence[Entry], output: Output, recipe: Recipe, manifest: Manifest, mattes: MatteCache, *, retry: bool = False
) -> Plan:
    """Return the plan of a batch; new inputs are added to the manifest.

    Parameters
    ----------
    entries : sequence of Entry
    output : Output
    recipe : Recipe
    manifest : Manifest
    mattes : MatteCache
    retry : bool
        Send photos again whose last attempt failed and may have been charged.
    """
    known = manifest.items()
    plan = Plan([entry.name for entry in entries])
    new = [(entry.name, entry.target) for entry in entries if entry.name not in known]
    targets = unique_targets(new, (item.target for item in known.values()))
    manifest.assign(targets.items())
    _note_collisions(plan, new, targets)
    open_calls = manifest.names_with_open_calls() if recipe.paid else set()
    inference, rendering = recipe.inference, recipe.rendering
    changed = 0
    for entry in entries:
        item = known.get(entry.name) or Item(entry.name, targets[entry.name])
        name = item.target + recipe.form.suffix
        same = item.stamp == entry.stamp and item.inference == inference and not entry.problem
        intact = item.state == "done" and output.size(name) == item.size
        if same and intact and item.rendering == rendering:
            plan.kept += 1
            continue
        # A resumable job may still have a result after a failed attempt; fetching it is free.
        final = item.state == "charged" and not retry and recipe.provider.resumes == "never"
        if same and (item.state == "nothing" or final):
            plan.settled += 1
            continue
        # A provisional result has no fingerprint of its inference.
        changed += item.state == "done" and item.inference != "" and (item.inference, item.rendering) != (inference, rendering)
        plan.tasks.append(Task(entry, item, name, intact))
        if recipe.paid and not entry.problem:
            reusable = same and item.digest and mattes.find(item.digest, inference)
            plan.sends += not reusable and (retry or (entry.name not in open_calls and item.state != "charged"))
    # Failed inputs come last, so that consecutive failures do not end each run before the other inputs are tried.
    plan.tasks.sort(key=lambda task: task.item.state == "failed")
    if changed:
        plan.notes.append(f"The settings have changed. {changed:,} of {len(entries):,} photos are processed again.")
    return plan


def _note_collisions(plan: Plan, new: Sequence[tuple[str, str]], targets: dict[str, str]) -> None:
    renamed = [(name, targets[name]) for name, target in new if targets[name] != target]
    for name, target in renamed[:3]:
        shown = printable(name, 60), printable(target, 60)
        plan.notes.append(f"{shown[0]} has the output name of another photo. Its result is named {shown[1]}.")
    if len(renamed) > 3:
        plan.notes.append(f"{len(renamed) - 3:,} more results were renamed as well. The summary lists them.")
