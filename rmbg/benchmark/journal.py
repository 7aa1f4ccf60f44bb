"""Results of a benchmark on disk: an append-only log of events, and the mattes.

Each line of ``journal.jsonl`` is one event of one provider on one picture, so a killed process loses no earlier result. The
mattes are stored beside it as PNG, so scores can be computed again without calling a provider.

    sent     the photo is about to be sent to a paid service; as the last event of a picture, its charge is unknown
    got      the matte was received and saved, with cost, seconds and device
    nothing  the provider found no subject
    failed   the provider raised an error, with its message
    scored   metrics of the matte
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from rmbg.benchmark.dataset import Sample
from rmbg.billing.cost import Cost
from rmbg.errors import InputError, OutputError
from rmbg.files import write
from rmbg.images.encode import FORMATS, encode
from rmbg.providers import file_name

State = Literal["sent", "got", "nothing", "failed"]

#: Increase it when a formula changes: scores of other versions are computed again from the mattes.
FORMULA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """Latest state of one provider on one picture.

    Attributes
    ----------
    provider, category, stem, digest : str
        `digest` is that of the sample.
    state : str
        The last event other than ``scored``.
    seconds : float or None
    cost : Cost
    engine, device, precision : str
    message : str
        Message of the error, if the provider failed or found no subject.
    scores : dict of metric id to float or None, or None
        The metrics of ``rmbg.metrics.quality.METRICS``; None for one that does not apply. None as a whole until computed.
    """

    provider: str
    category: str
    stem: str
    digest: str
    state: State
    seconds: float | None = None
    cost: Cost = field(default_factory=lambda: Cost(None, "unknown"))
    engine: str = ""
    device: str = ""
    precision: str = ""
    message: str = ""
    scores: dict[str, float | None] | None = None

    @property
    def id(self) -> str:
        return f"{self.category}/{self.stem}"

    @property
    def completed(self) -> bool:
        """True if the result can be scored: a matte, or the statement that there is no subject."""
        return self.state in ("got", "nothing")


class Journal:
    """The results in one folder. Thread-safe."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._path = self.folder / "journal.jsonl"
        self._lock = threading.Lock()
        self._results: dict[tuple[str, str], Result] = {}
        if self._path.exists():
            for line in self._path.read_bytes().split(b"\n"):
                self._apply(line)

    def _apply(self, line: bytes) -> None:
        """Apply one event to the results. An incomplete line, written by a process that was killed, is skipped."""
        try:
            event = json.loads(line)
        except ValueError:
            return
        key = event.pop("provider"), event.pop("digest")
        kind = event.pop("event")
        if kind == "scored":
            if event["formulas"] == FORMULA_VERSION and key in self._results:
                self._results[key] = replace(self._results[key], scores=event["scores"])
            return
        usd, basis = event.pop("usd", None), event.pop("basis", "unknown")
        cost = Cost(None if usd is None else Decimal(usd), basis)
        self._results[key] = Result(key[0], digest=key[1], state=kind, cost=cost, **event)

    def result(self, provider: str, sample: Sample) -> Result | None:
        with self._lock:
            return self._results.get((provider, sample.digest))

    def results(self, provider: str, samples: tuple[Sample, ...]) -> list[Result]:
        """The existing results of `provider` on `samples`, in the order of the samples."""
        found = (self.result(provider, sample) for sample in samples)
        return [result for result in found if result]

    def add(self, provider: str, sample: Sample, state: State, *, cost: Cost | None = None, **fields: Any) -> None:
        """Append an event; `fields` are attributes of `Result`.

        Raises
        ------
        OutputError
            If the journal cannot be written.
        """
        event: dict[str, Any] = {"event": state, "category": sample.category, "stem": sample.stem, **fields}
        if cost is not None:
            event |= {"usd": None if cost.usd is None else str(cost.usd), "basis": cost.basis}
        self._append(provider, sample, event)

    def add_scores(self, provider: str, sample: Sample, scores: dict[str, float | None]) -> None:
        """Append the scores of a result. Raises `OutputError` as `add` does."""
        self._append(provider, sample, {"event": "scored", "formulas": FORMULA_VERSION, "scores": scores})

    def _append(self, provider: str, sample: Sample, event: dict[str, Any]) -> None:
        line = json.dumps({"provider": provider, "digest": sample.digest, **event}, ensure_ascii=False).encode()
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with open(self._path, "ab+") as file:
                    file.seek(0, os.SEEK_END)
                    if file.tell():
                        file.seek(-1, os.SEEK_END)
                        if file.read(1) != b"\n":  # a killed process left an incomplete line
                            file.write(b"\n")
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from None
            self._apply(line)

    def matte_path(self, provider: str, sample: Sample) -> Path:
        return self.folder / "mattes" / file_name(provider) / sample.category / f"{sample.stem}.{sample.digest[:8]}.png"

    def save_matte(self, provider: str, sample: Sample, matte: np.ndarray) -> None:
        """Save a matte, uint8 (H, W), as PNG.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self.matte_path(provider, sample)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {path.parent} cannot be created: {error.strerror or error}.") from None
        write(path, encode(matte, FORMATS["png"]))

    def matte(self, provider: str, sample: Sample) -> np.ndarray:
        """Load a saved matte: uint8 (H, W).

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        path = self.matte_path(provider, sample)
        try:
            with Image.open(path) as image:
                return np.array(image.convert("L"))
        except OSError:
            raise InputError(f"{path} is missing or damaged. Run the benchmark with a new folder.") from None
