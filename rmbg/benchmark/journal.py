"""Results of a benchmark on disk, and the conditions under which they were obtained."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from rmbg.benchmark.dataset import Sample
from rmbg.billing.cost import Cost
from rmbg.errors import InputError, OutputError
from rmbg.images.encode import FORMATS, encode
from rmbg.inference.engines import import_torch, torch_is_installed
from rmbg.providers import Provider, file_name, find
from rmbg.runtime.files import write
from rmbg.runtime.threads import cpu_count
from rmbg.settings import Settings
from rmbg.version import __version__

#: Packages whose version can affect scores or seconds.
PACKAGES = ("numpy", "scipy", "pillow", "torch", "openvino", "transformers")


@functools.cache
def describe() -> dict[str, str]:
    """Names and values, in display order; unknown values are left out."""
    found = {
        "Processor": f"{_processor()}, {cpu_count()} cores",
        "Memory": _memory(),
        "Accelerator": _accelerator(),
        "System": f"{platform.system()} {platform.release()}",
        "rmbg": __version__,
        "Python": platform.python_version(),
    }
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if name := re.search("^(?:model name|hardware).*?:(.*)", text, re.IGNORECASE | re.MULTILINE):
            return name[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):  # not on Windows
        return ""


def _accelerator() -> str:
    """Name of torch's GPU, or empty. A torch for CPUs is not imported for this, as that takes seconds."""
    if not torch_is_installed() or metadata.version("torch").endswith("+cpu"):
        return ""
    torch = import_torch()
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple MPS" if torch.backends.mps.is_available() else ""


#: Packages whose code determines the matte and the seconds of a local provider.
SOURCES = ("images", "inference", "matting", "networks", "providers")


@dataclass(frozen=True)
class Conditions:
    """Conditions of the results of one provider.

    Attributes
    ----------
    key : str
        Hash of `facts`. Results are stored by it.
    machine : str
        Hash of the hardware, the versions of packages and the price of an hour. Seconds are valid for one machine.
    facts : dict of str to Any
        Provider, options, model revision, engine, device, precision and program version; for local providers also the machine.
    """

    key: str
    machine: str
    facts: dict[str, Any]


def conditions(provider: Provider, settings: Settings) -> Conditions:
    """Return the conditions under which `provider` runs with these settings.

    Results of a service do not depend on the machine, and on the version of the program only instead of a checksum of its code,
    as another call would be charged. Their seconds are valid for one machine.

    Raises
    ------
    NotReadyError
        If the settings name an engine or a device that is not available.
    """
    remote = provider.info.kind == "remote"
    here = {**describe(), "Price of an hour": str(settings.hourly_usd)}
    facts = {
        "provider": provider.info.id,
        "options": provider.info.parse_options({}),
        "models": [asdict(execution) for execution in provider.executions(settings)],
        "version": __version__ if remote else f"{__version__}+{source_checksum()}",
        **({} if remote else {"machine": here}),
    }
    return Conditions(_hash(facts), _hash(here), facts)


@functools.cache
def source_checksum() -> str:
    """Checksum of the modules in `SOURCES`."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in (root / name).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
        None also for the answer of a service that was received on another machine.
    cost : Cost
    engine, device, precision : str
    message : str
        Message of the error, if the provider failed or found no subject.
    under, machine : str
        Keys of its conditions and of its machine; empty in journals of earlier versions.
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
    under: str = ""
    machine: str = ""
    scores: dict[str, float | None] | None = None

    @property
    def id(self) -> str:
        return f"{self.category}/{self.stem}"

    @property
    def completed(self) -> bool:
        """True if the result can be scored: a matte, or the statement that there is no subject."""
        return self.state in ("got", "nothing")

    @property
    def possibly_charged(self) -> bool:
        """True if there is no result, and the service may have charged for it."""
        return not self.completed and self.cost.usd is None


class Journal:
    """The results in one folder. Thread-safe.

    Parameters
    ----------
    folder : str or path
    settings : Settings, optional
        Determine the present conditions; from the environment by default.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Settings | None = None) -> None:
        self.folder = Path(folder)
        self._settings = settings or Settings.from_environ()
        self._conditions: dict[str, Conditions] = {}
        self._described: set[str] = set()
        self._path = self.folder / "journal.jsonl"
        self._lock = threading.Lock()
        self._results: dict[tuple[str, str, str], Result] = {}
        if self._path.exists():
            for line in self._path.read_bytes().split(b"\n"):
                with suppress(ValueError):  # an incomplete line, written by a process that was killed
                    self._apply(json.loads(line))

    def _apply(self, event: dict[str, Any]) -> None:
        """Apply one event to the results."""
        kind, provider = event.pop("event"), event.pop("provider")
        if kind == "conditions":
            self._described.add(event["under"])
            return
        digest = event.pop("digest")
        key = provider, event.get("under", ""), digest
        if kind == "scored":
            if event["formulas"] == FORMULA_VERSION and key in self._results:
                self._results[key] = replace(self._results[key], scores=event["scores"])
            return
        usd, basis = event.pop("usd", None), event.pop("basis", "unknown")
        cost = Cost(None if usd is None else Decimal(usd), basis)
        self._results[key] = Result(provider, digest=digest, state=kind, cost=cost, **event)

    def conditions(self, provider: str) -> Conditions:
        """Present conditions of a provider, computed once, and again after `update_conditions`."""
        if provider not in self._conditions:
            self._conditions[provider] = conditions(find(provider), self._settings)
        return self._conditions[provider]

    def update_conditions(self, provider: str) -> None:
        """Compute the conditions again, after weights were downloaded."""
        self._conditions.pop(provider, None)

    def result(self, provider: str, sample: Sample) -> Result | None:
        """Result of a provider on a picture under the present conditions; None if there is none."""
        present = self.conditions(provider)
        keys = (present.key, "") if find(provider).info.kind == "remote" else (present.key,)
        with self._lock:
            result = next((found for key in keys if (found := self._results.get((provider, key, sample.digest)))), None)
        return result if result is None or result.machine == present.machine else replace(result, seconds=None)

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
        present = self.conditions(provider)
        if cost is not None:
            fields |= {"usd": None if cost.usd is None else str(cost.usd), "basis": cost.basis}
        fields |= {"category": sample.category, "stem": sample.stem, "under": present.key, "machine": present.machine}
        if present.key not in self._described:
            self._append({"provider": provider, "event": "conditions", "under": present.key, **present.facts})
        self._append({"provider": provider, "digest": sample.digest, "event": state, **fields})

    def add_scores(self, provider: str, sample: Sample, scores: dict[str, float | None]) -> None:
        """Append the scores of a result. Raises `OutputError` as `add` does."""
        of = {"provider": provider, "digest": sample.digest, "under": self._under(provider, sample)}
        self._append({**of, "event": "scored", "formulas": FORMULA_VERSION, "scores": scores})

    def _under(self, provider: str, sample: Sample) -> str:
        """Key of the conditions of a result; the present one if there is no result."""
        result = self.result(provider, sample)
        return self.conditions(provider).key if result is None else result.under

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps(event, ensure_ascii=False, default=str).encode()
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with open(self._path, "ab+") as file:
                    file.seek(max(0, file.tell() - 1))
                    complete = file.read() in (b"", b"\n")  # a killed process leaves an incomplete line
                    file.write((b"" if complete else b"\n") + line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from None
            self._apply(json.loads(line))

    def matte_path(self, provider: str, sample: Sample, under: str) -> Path:
        """File of a matte that was computed under the conditions with the key `under`."""
        name = ".".join(filter(None, (sample.stem, sample.digest[:8], under[:8], "png")))
        return self.folder / "mattes" / file_name(provider) / sample.category / name

    def save_matte(self, provider: str, sample: Sample, matte: np.ndarray) -> None:
        """Save a matte, uint8 (H, W), as PNG.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self.matte_path(provider, sample, self.conditions(provider).key)
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
        path = self.matte_path(provider, sample, self._under(provider, sample))
        try:
            with Image.open(path) as image:
                return np.array(image.convert("L"))
        except OSError:
            raise InputError(f"{path} is missing or damaged. Run the benchmark with a new folder.") from None
