"""The folder of a run: what happened, one line at a time, and the mattes that came back.

``journal.jsonl`` is only ever added to, so that a run that is killed loses nothing that it had: every line is one event of one
provider on one picture. The mattes lie beside it as PNG, so figures can be computed again without asking a provider again.

    sent     the photo is about to leave for a paid service; without a later line nobody knows whether it was charged
    got      the matte came back and is saved, with what it took
    nothing  the provider worked and found no subject
    failed   it did not work, with the reason
    scored   the figures of a matte
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
from rmbg.cutout import Cost
from rmbg.encode import FORMATS, encode, write
from rmbg.errors import InputError, OutputError

State = Literal["sent", "got", "nothing", "failed"]

#: Raised whenever a formula changes: figures of another number are computed again from the mattes.
FORMULAS = 1


@dataclass(frozen=True)
class Result:
    """What is known about one provider on one picture.

    Attributes
    ----------
    provider, category, stem, digest : str
        `digest` is that of the sample.
    state : str
    seconds : float or None
    cost : Cost
    engine, device, precision : str
    message : str
        Why it failed.
    scores : dict or None
        The figures by the ids of ``metrics.METRICS``.
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
    def answered(self) -> bool:
        """Whether the provider gave an answer that can be scored; an answer is never asked for again."""
        return self.state in ("got", "nothing")


class Journal:
    """The results in one folder; safe to use from several threads."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._path = self.folder / "journal.jsonl"
        self._lock = threading.Lock()
        self._results: dict[tuple[str, str], Result] = {}
        if self._path.exists():
            for line in self._path.read_bytes().split(b"\n"):
                self._take(line)

    def _take(self, line: bytes) -> None:
        """One line of the file; the last one of a run that was killed may be torn and says nothing."""
        try:
            event = json.loads(line)
        except ValueError:
            return
        key = event.pop("provider"), event.pop("digest")
        kind = event.pop("event")
        if kind == "scored":
            if event["formulas"] == FORMULAS and key in self._results:
                self._results[key] = replace(self._results[key], scores=event["scores"])
            return
        usd, basis = event.pop("usd", None), event.pop("basis", "unknown")
        cost = Cost(None if usd is None else Decimal(usd), basis)
        self._results[key] = Result(key[0], digest=key[1], state=kind, cost=cost, **event)

    def result(self, provider: str, sample: Sample) -> Result | None:
        with self._lock:
            return self._results.get((provider, sample.digest))

    def results(self, provider: str, samples: tuple[Sample, ...]) -> list[Result]:
        """What is known about `provider` on `samples`, in their order."""
        known = (self.result(provider, sample) for sample in samples)
        return [result for result in known if result]

    def add(self, provider: str, sample: Sample, state: State, *, cost: Cost | None = None, **facts: Any) -> None:
        """An event of a provider on a picture; `facts` are attributes of `Result`."""
        event: dict[str, Any] = {"event": state, "category": sample.category, "stem": sample.stem, **facts}
        if cost is not None:
            event |= {"usd": None if cost.usd is None else str(cost.usd), "basis": cost.basis}
        self._append(provider, sample, event)

    def add_scores(self, provider: str, sample: Sample, scores: dict[str, float | None]) -> None:
        self._append(provider, sample, {"event": "scored", "formulas": FORMULAS, "scores": scores})

    def _append(self, provider: str, sample: Sample, event: dict[str, Any]) -> None:
        line = json.dumps({"provider": provider, "digest": sample.digest, **event}, ensure_ascii=False).encode()
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with open(self._path, "ab+") as file:
                    file.seek(0, os.SEEK_END)
                    if file.tell():
                        file.seek(-1, os.SEEK_END)
                        if file.read(1) != b"\n":  # the line before was torn by a kill
                            file.write(b"\n")
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from None
            self._take(line)

    def matte_path(self, provider: str, sample: Sample) -> Path:
        return self.folder / "mattes" / provider / sample.category / f"{sample.stem}.{sample.digest[:8]}.png"

    def save_matte(self, provider: str, sample: Sample, matte: np.ndarray) -> None:
        """`matte`, uint8 (H, W), as PNG."""
        path = self.matte_path(provider, sample)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent} cannot be made: {error.strerror or error}.") from None
        write(path, encode(matte, FORMATS["png"]))

    def matte(self, provider: str, sample: Sample) -> np.ndarray:
        """A saved matte: uint8 (H, W)."""
        path = self.matte_path(provider, sample)
        try:
            with Image.open(path) as image:
                return np.array(image.convert("L"))
        except OSError:
            raise InputError(f"{path} is gone or damaged; run the benchmark into a new folder.") from None
