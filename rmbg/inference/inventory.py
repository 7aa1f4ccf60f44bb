"""The published networks and own models on this machine: which are on disk, their size, and the seconds of their last run."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from rmbg.errors import ModelError, OutputError
from rmbg.inference import weights
from rmbg.inference.catalog import DOWNLOADS, Model
from rmbg.runtime import files
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

#: File in the data folder with the seconds of the last run by id of the network.
SECONDS = "seconds.json"

#: Relative change of the seconds below which they are not written again; runs of a batch would write the file for each photo.
TOLERANCE = 0.2


@dataclass(frozen=True)
class Network:
    """A published network or own model on this machine.

    Attributes
    ----------
    model : Model
    path : Path or None
        File of the weights; None if they are not on this machine.
    size : int
        Bytes on disk.
    seconds : float or None
        Inference and post-processing of the last run on this machine; None if it has not run.
    score : float or None
        Of an own model, its mean score on the examples from 0 to 100; None if it is not measured.
    """

    model: Model
    path: Path | None
    size: int
    seconds: float | None
    score: float | None = None

    @property
    def use(self) -> str:
        """Recommended use, or architecture and score of an own model."""
        if self.score is None:
            return self.model.best_for
        text = "{network}, {score} of 100 on the examples"
        return Message(text, network=self.model.network, score=f"{self.score:.1f}")


def networks(settings: Settings) -> list[Network]:
    """Return all published networks in the order of the catalog, and the models in RMBG_MODELS; sends no request.

    Raises
    ------
    NotReadyError
        If ``RMBG_WEIGHTS`` is no folder that can be read.
    OptionError
        If ``RMBG_MODELS`` is none.
    """
    seconds = _read_seconds(settings)
    found = []
    for model in DOWNLOADS.values():
        path = weights.present(model, settings)
        size = 0 if path is None else path.stat().st_size
        found.append(Network(model, path, size, seconds.get(model.id)))
    if settings.models is not None:
        from rmbg.inference import own_models  # deferred, as most programs have no own models

        found += [_own(model, seconds.get(model.id), settings) for model in own_models.in_folder(settings.models)]
    return found


def _own(model: Model, seconds: float | None, settings: Settings) -> Network:
    from rmbg.inference import own_models

    path, size, measured = weights.present(model, settings), 0, None
    if path is not None:
        with contextlib.suppress(ModelError, OSError):  # of a damaged file or invalid settings, which have no score
            size = path.stat().st_size
            size = sum(file.stat().st_size for file in weights.own_files(path))
            measured = own_models.stored(model, settings)
    model = replace(model if measured is None else measured.model, megabytes=max(1, round(size / 1e6)))
    return Network(model, path, size, seconds, None if measured is None else measured.score)


def record_seconds(name: str, seconds: float, settings: Settings) -> None:
    """Store the seconds of a run of the network `name`; errors of writing are ignored."""
    stored = _read_seconds(settings)
    if abs(stored.get(name, 0.0) - seconds) <= TOLERANCE * seconds:
        return
    with contextlib.suppress(OSError, OutputError):
        settings.data.mkdir(parents=True, exist_ok=True)
        files.write(settings.data / SECONDS, json.dumps({**stored, name: round(seconds, 3)}, indent=1).encode())


def _read_seconds(settings: Settings) -> dict[str, float]:
    """Stored seconds by id; empty if the file is missing or damaged."""
    try:
        stored = json.loads((settings.data / SECONDS).read_bytes())
        return {str(name): float(seconds) for name, seconds in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
