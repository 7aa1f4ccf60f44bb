"""Pictures with their true mattes, from a folder or a zip: ``category/im/*`` and ``category/gt/*``.

A zip is read where it lies: nothing is unpacked, so no name in it can lead out of a folder and no bomb can fill a disk. All
that can be told from the files' headers is checked before the first picture is sent anywhere.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image

from rmbg.decode import formats
from rmbg.errors import CancelledError, InputError
from rmbg.photo import Photo, open_photo
from rmbg.providers.base import never, silent
from rmbg.settings import Settings

LAYOUT = "it needs folders CATEGORY/im with photos and CATEGORY/gt with their true mattes, of the same names"
SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_FILES = 200_000

#: What reading a damaged zip raises.
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError)

#: The tag of EXIF that says how a photo is turned; from five on its sides are exchanged.
ORIENTATION = 0x0112


class Source(Protocol):
    """Where the files of a data set are."""

    def names(self) -> list[PurePosixPath]: ...

    def read(self, name: PurePosixPath, limit: int) -> bytes:
        """At most `limit` + 1 bytes of a file."""
        ...


@dataclass(frozen=True)
class Folder:
    root: Path

    def names(self) -> list[PurePosixPath]:
        files = (file for kind in ("im", "gt") for file in self.root.glob(f"*/{kind}/*") if file.is_file())
        return [PurePosixPath(file.relative_to(self.root).as_posix()) for file in files]

    def read(self, name: PurePosixPath, limit: int) -> bytes:
        with open(self.root / name, "rb") as file:
            return file.read(limit + 1)


@dataclass(frozen=True)
class Zip:
    """An archive that stays open: its directory, with a line for each of thousands of files, is read once."""

    path: Path
    archive: zipfile.ZipFile = field(compare=False, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def names(self) -> list[PurePosixPath]:
        members = [member for member in self.archive.infolist() if not member.is_dir()]
        if len(members) > MAX_FILES:
            raise InputError(f"{self.path.name} holds {len(members):,} files, more than the limit of {MAX_FILES:,}.")
        for member in members:
            if member.filename.startswith("/") or ".." in member.filename.split("/") or re.search(r"[\\:]", member.filename):
                raise InputError(f"{self.path.name} holds the name {member.filename[:60]!r}, which leads out of the archive.")
            if member.flag_bits & 1:
                raise InputError(f"{self.path.name} is encrypted; unpack it first.")
        return [PurePosixPath(member.filename) for member in members]

    def read(self, name: PurePosixPath, limit: int) -> bytes:
        # An archive counts who reads in it, and threads could miscount; then it would close too early.
        with self.lock, self.archive.open(str(name)) as file:
            return file.read(limit + 1)


@dataclass(frozen=True)
class Sample:
    """One photo and its true matte.

    Attributes
    ----------
    category, stem : str
    digest : str
        Of the bytes of both files: a result belongs to a picture by what is in it, not by its name.
    """

    category: str
    stem: str
    digest: str
    source: Source
    photo_name: PurePosixPath
    truth_name: PurePosixPath

    @property
    def id(self) -> str:
        return f"{self.category}/{self.stem}"

    def photo(self, settings: Settings) -> Photo:
        """The photo, through the same door as any other."""
        data = self.source.read(self.photo_name, settings.max_bytes)
        return open_photo(data, name=self.photo_name.name, settings=settings)

    def truth(self, settings: Settings) -> np.ndarray:
        """The true alpha: float32 (H, W) in [0, 1], somewhere above one half.

        Raises
        ------
        InputError
            If it is damaged, coloured or empty.
        """
        try:
            data = self.source.read(self.truth_name, settings.max_bytes)
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                pixels = np.asarray(image.convert("RGB" if image.mode in ("P", "RGB") else "L"))
        except Exception as error:  # Pillow's decoders raise nearly everything on broken files
            raise InputError(f"{self.truth_name} is damaged and cannot be read ({error}).") from None
        if pixels.ndim == 3:
            if (pixels != pixels[..., :1]).any():
                raise InputError(f"{self.truth_name} is coloured; a true matte is grey, white where the subject is.")
            pixels = pixels[..., 0]
        truth = pixels.astype(np.float32) / np.float32(255)
        if not (truth > 0.5).any():
            raise InputError(f"{self.truth_name} is empty: nowhere in it is alpha above one half.")
        return truth


@dataclass(frozen=True)
class Dataset:
    """A checked data set; its samples are sorted by category and stem."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sample.category for sample in self.samples))


def open_dataset(
    path: str | Path,
    *,
    settings: Settings | None = None,
    progress: Callable[[float | None, str], None] = silent,
    cancelled: Callable[[], bool] = never,
) -> Dataset:
    """Find and check the pictures of a data set.

    Raises
    ------
    InputError
        If it is no data set, or a file of it cannot be used; the message names the first few.
    """
    settings = settings or Settings.from_environ()
    path = Path(path)
    source = _source(path)
    pairs, problems = _pair(source.names())
    if not pairs and not problems:
        raise InputError(f"{path.name} is no data set: {LAYOUT}.")
    samples = []
    for done, (category, stem, photo_name, truth_name) in enumerate(pairs):
        if cancelled():
            raise CancelledError("Stopped.")
        progress(done / len(pairs), f"Checking {category}/{stem}")
        try:
            digest = _check(source, photo_name, truth_name, settings)
        except InputError as error:
            problems.append(str(error))
        else:
            samples.append(Sample(category, stem, digest, source, photo_name, truth_name))
    if problems:
        more = f" And {len(problems) - 3} more such problems." if len(problems) > 3 else ""
        raise InputError(f"{path.name} cannot be used as a data set. {' '.join(problems[:3])}{more}")
    return Dataset(path.stem if path.is_file() else path.resolve().name, tuple(samples))


def _source(path: Path) -> Source:
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise InputError(f"There is no data set {str(path)!r}.")
    try:
        return Zip(path, zipfile.ZipFile(path))
    except (OSError, ValueError, *BROKEN):
        raise InputError(f"{path.name} is neither a folder nor a whole zip; {LAYOUT}.") from None


def _pair(names: list[PurePosixPath]) -> tuple[list[tuple[str, str, PurePosixPath, PurePosixPath]], list[str]]:
    """Photos and mattes of the same category and stem, sorted, and sentences about all that has no partner."""
    found: dict[tuple[str, str], dict[str, PurePosixPath]] = {}
    problems = []
    roots = set()
    for name in sorted(names):
        parts = name.parts
        if len(parts) < 3 or parts[-2] not in ("im", "gt") or any(part.startswith((".", "__MACOSX")) for part in parts):
            continue
        if parts[-1].lower() in ("thumbs.db", "desktop.ini"):
            continue
        roots.add(parts[:-3])
        if name.suffix.lower() not in SUFFIXES:
            problems.append(f"{name} is not a picture.")
            continue
        here = found.setdefault((parts[-3], name.stem), {})
        if parts[-2] in here:
            problems.append(f"{name} and {here[parts[-2]].name} have the same stem.")
        here[parts[-2]] = name
    if len(roots) > 1:
        problems.append("It holds more than one data set; give one of them.")
    pairs = []
    for (category, stem), here in sorted(found.items()):
        if "gt" not in here:
            problems.append(f"{here['im']} has no true matte in gt.")
        elif "im" not in here:
            problems.append(f"{here['gt']} has no photo in im.")
        else:
            pairs.append((category, stem, here["im"], here["gt"]))
    return pairs, problems


def _check(source: Source, photo_name: PurePosixPath, truth_name: PurePosixPath, settings: Settings) -> str:
    """What can be told without decoding; returns the digest of both files."""
    digest = hashlib.sha256()
    sizes = []
    for name in (photo_name, truth_name):
        try:
            data = source.read(name, settings.max_bytes)
        except (OSError, *BROKEN) as error:
            raise InputError(f"{name} cannot be read ({error}).") from None
        if len(data) > settings.max_bytes:
            raise InputError(f"{name} has more than the limit of {settings.max_bytes / 1e6:g} MB.")
        digest.update(len(data).to_bytes(8, "big") + data)
        sizes.append(_upright_size(data, name, settings, truth=name == truth_name))
    if sizes[0] != sizes[1]:
        (width, height), (true_width, true_height) = sizes
        raise InputError(f"{photo_name} is {width} x {height} pixels and its matte {true_width} x {true_height}.")
    return digest.hexdigest()[:32]


def _upright_size(data: bytes, name: PurePosixPath, settings: Settings, *, truth: bool) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            (width, height), mode, turned = image.size, image.mode, image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # Pillow's readers raise nearly everything on broken files
        raise InputError(f"{name} is not a picture that can be opened ({type(error).__name__}).") from None
    if width * height > settings.max_pixels:
        raise InputError(f"{name} has {width} x {height} pixels, more than the limit of {settings.max_pixels / 1e6:g} million.")
    if truth:
        if mode not in ("1", "L", "P", "RGB"):
            raise InputError(f"{name} is a picture of kind {mode}; a true matte is 8-bit grey without an alpha channel.")
        return width, height
    return (height, width) if turned in (5, 6, 7, 8) else (width, height)
