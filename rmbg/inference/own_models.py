"""Models that are not in the catalog: checkpoints of its architectures, and ONNX files.

The architecture of a checkpoint is the one whose tensors have the same names and shapes. What neither the weights nor
``rmbg.inference.model_settings`` determine, the patch order of a BiRefNet and the normalization, is chosen by the score on the
examples, whose true mattes are known. The choice and its scores are stored in the data folder with the checksum of the file, so
that a model is measured once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rmbg.errors import ModelError, OptionError, printable, reason
from rmbg.images.photo import open_photo
from rmbg.inference import hub, preprocess, weights
from rmbg.inference.catalog import CONVERTED, IMAGENET_MEAN, IMAGENET_STD, MODELS, OWN, Model, build, renamed
from rmbg.inference.engines import import_torch
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.inference.model_settings import CONFIG, PATCH_ORDERS, PREPROCESSOR, STRIDE, described, parse
from rmbg.inference.onnx_file import failure, image_input
from rmbg.inference.weights import Progress
from rmbg.metrics import quality
from rmbg.runtime import files
from rmbg.runtime.messages import NOT_SET_UP, Message, OwnerMessage
from rmbg.settings import Settings

#: Suffixes of the files that can be used, and of those that hold programs, which run when they are read.
SUFFIXES = (".safetensors", ".onnx")
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")

#: Ids of repositories on the hub.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

#: Usual normalizations of ONNX files: of ImageNet, to [-0.5, 0.5], and none.
NORMALIZATIONS = ((IMAGENET_MEAN, IMAGENET_STD), ((0.5,) * 3, (1.0,) * 3), ((0.0,) * 3, (1.0,) * 3))

#: Composite that a model must reach on one of the examples, each of another category, as a model may be for people only. Masks
#: that ignore the photo, such as an ellipse in the center, have at most 48, and untrained networks had 59.
MIN_SCORE = 70.0

#: File in the data folder with the choices and scores, and the number of models in it.
STORE = "own_models.json"
MAX_STORED = 100

#: Fields of a model that describe where it is from. All others determine its mattes.
ORIGIN = (
    *("id", "title", "network", "best_for", "megabytes", "license", "license_url"),
    *("hub", "file", "revision", "gated", "url", "checksum", "seconds", "path"),
)

#: Model whose origin is added later.
UNKNOWN = Model("", "", "own model", "own model", 0, "Not stated; see the source of the model.", "", "onnx")

_lock = threading.Lock()


@dataclass(frozen=True)
class MeasuredModel:
    """An own model, and its composite from 0 to 100 on each of the examples."""

    model: Model
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean score."""
        return sum(self.scores) / len(self.scores)

    def __str__(self) -> str:
        model = self.model
        patches = f", patch order {model.patch_order}" if model.patch_order else ""
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (model.mean, model.std))
        return (
            f"{model.id}: {model.network}, {model.input_size}, mean {mean}, std {std}{patches}; scores {self.score:.1f} of 100 "
            "on the examples."
        )


def locate(source: str) -> Model:
    """Return the model of a file, a folder or a repository on the hub, with what is known without reading it.

    Parameters
    ----------
    source : str
        ``FILE.safetensors``, ``FILE.onnx``, a folder with one of them, or the id of a repository with ``model.safetensors``.

    Raises
    ------
    OptionError
        If there is no such file, and it is not the id of a repository.
    ModelError
        If it is a file of another kind, or the folder has none or several.
    """
    shown = printable(source, 120)
    path = Path(source).expanduser().absolute()
    try:
        if path.is_dir():
            return _model(path.name, path=_file_in(path))
        exists = path.is_file()
    except (OSError, ValueError):  # a name that the file system does not accept
        exists = False
    if exists:
        _check_suffix(path)
        return _model(path.parent.name if path.stem == "model" else path.stem, path=path)
    if HUB_ID.fullmatch(source) and path.suffix.lower() not in (*SUFFIXES, *PICKLES):
        return _model(source, hub=source)
    raise OptionError(
        f"There is no model {shown!r}. Give a file (.safetensors or .onnx), a folder with one, or an id on the hub such as "
        "ZhengPeng7/BiRefNet."
    )


def in_folder(folder: Path) -> list[Model]:
    """Return the models in a folder, which are files and folders with one, sorted by name.

    Raises
    ------
    OptionError
        If the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        text = f"RMBG_MODELS is {printable(str(folder), 120)!r}, which cannot be read ({reason(error)}). Set it to a folder."
        raise OptionError(OwnerMessage(text, NOT_SET_UP)) from None
    found: dict[str, Model] = {}
    for path in paths:
        if path.is_dir():
            try:
                model = locate(str(path))
            except (ModelError, OptionError):  # a folder for other things, or one that cannot be read
                continue
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            model = _model(path.stem, path=path.absolute())
        else:
            continue
        stem, number = model.id, 1
        while model.id in found:
            number += 1
            model = replace(model, id=f"{stem}-{number}")
        found[model.id] = model
    return list(found.values())


def measure(
    model: Model, options: Mapping[str, Any], settings: Settings, progress: Progress, check: Callable[[], None]
) -> MeasuredModel:
    """Return an own model with all that determines its mattes, and its scores; a known one is not measured again.

    Parameters
    ----------
    model : Model
        From `locate` or `in_folder`.
    options : mapping of str to value
        See `OPTIONS`.
    settings : Settings
    progress : callable (fraction or None, text)
    check : callable
        Called between steps; raises to cancel.

    Raises
    ------
    OptionError
        If an option is invalid.
    NotReadyError
        If the weights cannot be downloaded.
    ModelError
        If the file cannot be used, or its score is below `MIN_SCORE` on all examples and it is not forced.
    """
    if model.hub and weights.present(model, settings) is None and not hub.offline(settings):
        model = replace(model, megabytes=round(hub.size(model, settings) / 1e6))
    path, given, force, key = _identify(model, options, settings, progress)
    measured = _stored(settings, key)
    if measured is None:
        candidates = find_candidates(path, given)
        scored = [MeasuredModel(one, score(model, one, settings, progress, check)) for one in candidates]
        measured = max(scored, key=lambda one: one.score)
        _store(settings, key, measured)
    measured = replace(measured, model=_with_origin(measured.model, model))
    if not force and max(measured.scores) < MIN_SCORE:
        text = (
            f"{model.id} scores {measured.score:.1f} of 100 on the examples, and {max(measured.scores):.1f} on the best one. "
            "Check its size, mean and std, or accept it with --force, which is force = true in model.toml."
        )
        raise ModelError(OwnerMessage(text, NOT_SET_UP))
    return measured


def checksum(model: Model, options: Mapping[str, Any], settings: Settings) -> str:
    """Return a checksum of the weights and settings of an own model, which determine its mattes; raises as `measure`."""
    return _identify(model, options, settings, _no_progress)[3]


def stored(model: Model, settings: Settings) -> MeasuredModel | None:
    """Return what is stored of a model from `in_folder`, without reading its weights; None if it is not measured.

    Raises
    ------
    ModelError
        If its settings are invalid.
    """
    if model.path is None or weights.known(model.path, settings.data) is None:
        return None
    measured = _stored(settings, checksum(model, {}, settings))
    return None if measured is None else replace(measured, model=_with_origin(measured.model, model))


def find_candidates(path: Path, given: Mapping[str, Any]) -> list[Model]:
    """Return the models that a file can be: one, or several if its weights and `given` leave a choice.

    Raises
    ------
    ModelError
        If it is a model of no known architecture.
    """
    if path.suffix.lower() == ".onnx":
        fixed = image_input(path).size
        if fixed is not None and "size" in given and fixed != (given["size"],) * 2:
            raise failure(path, f"has a fixed input of {fixed[1]} x {fixed[0]}. Omit the size.")
        height, width = fixed or (UNKNOWN.size,) * 2
        base = replace(UNKNOWN, network="ONNX", size=height, width=None if width == height else width)
        found = [replace(base, mean=mean, std=std) for mean, std in NORMALIZATIONS]
    else:
        found = fitting_models(path)
        if given.get("size", STRIDE) % STRIDE:
            raise failure(path, f"needs a size that is a multiple of {STRIDE}. Set size.")
        base = replace(found[0], width=None, dynamic=None) if "size" in given else found[0]
        # A checkpoint of BiRefNet loads with each order; None is the order of the other networks.
        found = [
            replace(model, size=base.size, width=base.width, dynamic=base.dynamic, patch_order=order)
            for model in found
            for order in ((None,) if model.patch_order is None else PATCH_ORDERS)
        ]
    without_origin = {name: getattr(base, name) for name in ORIGIN}
    return list(dict.fromkeys(replace(model, **{**without_origin, **given}) for model in found))


def fitting_models(path: Path) -> list[Model]:
    """Return the models of the catalog, and of `CONVERTED`, whose networks have the tensors of a checkpoint.

    Raises
    ------
    ModelError
        If the file is not a checkpoint of a known architecture.
    """
    from safetensors import SafetensorError, safe_open

    import_torch()
    from rmbg.networks.load import TensorInfo, WrongTensorsError, check_tensors

    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is not a mapping
            tensors = {
                name: TensorInfo(tuple(part.get_shape()), part.get_dtype(), part.get_dtype().startswith(("F", "BF")))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise failure(path, f"is not a safetensors file, or it is incomplete ({reason(error)}). Export it again.") from None
    definitions: dict[Model, list[Model]] = {}  # models of the catalog by what their networks are built from
    for model in (*MODELS.values(), *CONVERTED):
        if model.engines == ("openvino", "torch"):
            origin: dict[str, Any] = {name: getattr(UNKNOWN, name) for name in ORIGIN}
            definition = replace(model.network_only, **origin, width=None, dynamic=None)
            if model.patch_order is not None:  # it has no effect on the tensors
                definition = replace(definition, patch_order=PATCH_ORDERS[0])
            definitions.setdefault(definition, []).append(model)
    found: list[Model] = []
    closest = (0.5, "")
    for definition, models in definitions.items():
        network, unused = build(definition)
        own = network.state_dict()
        given = renamed(definition, tensors, own)
        try:
            check_tensors(own, given, unused)
            found += models
        except WrongTensorsError as error:
            closest = max(closest, (len(own.keys() & given.keys()) / len(own), f"{models[0].network}: {error}"))
    if not found:
        known = ", ".join(dict.fromkeys(models[0].network.partition(",")[0] for models in definitions.values()))
        text = f"is close to {printable(closest[1], 150)}" if closest[1] else f"is of no known architecture ({known})."
        raise failure(path, f"{text} Export the network as ONNX and pass that file.")
    return found


def score(own: Model, candidate: Model, settings: Settings, progress: Progress, check: Callable[[], None]) -> tuple[float, ...]:
    """Return the composite of a candidate on each of the examples, from 0 to 100."""
    model, scores = _with_origin(candidate, own), []
    for rgb, truth in examples(settings):
        check()
        progress(None, Message("Measuring {model} on the examples", model=model.id))
        masks, _ = MODEL_CACHE.predict(model, preprocess.prepare(model, rgb), settings, _no_progress, check)
        matte = preprocess.alpha(model, masks[0], *truth.shape) / np.float32(255)
        parts = quality.iou(matte, truth), quality.edge(matte, truth), quality.transparency(matte, truth)
        scores.append(float(quality.composite(*parts)))
    return tuple(scores)


def examples(settings: Settings) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Photo, uint8 (H, W, 3), and true matte, float32 (H, W), of the first example of each category.

    Raises
    ------
    ModelError
        If the package is installed without its examples.
    """
    categories = sorted(files.EXAMPLES.glob("*/im"))
    if not categories:
        raise ModelError("The example pictures are missing from this installation. Install the package again.")
    for folder in categories:
        photo = min(folder.iterdir())
        truth = open_photo(folder.parent / "gt" / f"{photo.stem}.png", settings=settings)
        yield open_photo(photo, settings=settings).flattened(), truth.rgb[..., 0] / np.float32(255)


def _identify(
    model: Model, options: Mapping[str, Any], settings: Settings, progress: Progress
) -> tuple[Path, dict[str, Any], bool, str]:
    """File of a model, its settings and whether it is forced, and the checksum of file and settings; raises as `measure`."""
    options = {name: parse(name, value) for name, value in options.items()}
    file = weights.fetch(model, settings, progress)
    if model.hub:
        for name in (CONFIG, PREPROCESSOR):
            hub.download_if_present(replace(model, file=name), file.path.parent.name, settings)
    given = {**described(file.path), **options}
    force = given.pop("force", False)
    key = hashlib.sha256(json.dumps([file.sha256, given], sort_keys=True).encode()).hexdigest()
    return file.path, given, force, key


def _model(name: str, *, path: Path | None = None, hub: str = "") -> Model:
    """Model of a file or a repository before it is read."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "unnamed"
    architecture: Literal["onnx", "isnet"] = "onnx" if path is not None and path.suffix.lower() == ".onnx" else "isnet"
    return replace(UNKNOWN, id=f"{OWN}{stem}", title=stem, architecture=architecture, hub=hub, path=path)


def _with_origin(candidate: Model, own: Model) -> Model:
    """The candidate with id and file of an own model."""
    origin = {name: getattr(own, name) for name in ORIGIN if name != "network"}
    return replace(candidate, **origin)


def _file_in(folder: Path) -> Path:
    """The model in a folder: ``model.safetensors``, ``model.onnx`` or the only file of their kinds; raises ModelError."""
    for name in ("model.safetensors", "model.onnx"):
        if (folder / name).is_file():
            return folder / name
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    models = [path for path in found if path.suffix.lower() in SUFFIXES]
    if len(models) == 1:
        return models[0]
    if models:
        names = ", ".join(printable(path.name, 40) for path in models[:3])
        raise failure(folder, f"has {len(models)} models ({names}). Give the path of one of them.")
    for path in found:
        if path.suffix.lower() in PICKLES:
            _check_suffix(path)
    raise failure(folder, "has no file of the kind .safetensors or .onnx. Choose another folder.")


def _check_suffix(path: Path) -> None:
    """Raise ModelError for a file that is not read: a pickle, with the way to convert it, or another kind."""
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        name = path.name if re.fullmatch(r"[\w. -]{1,40}", path.name) else f"model{suffix}"
        text = (
            f"{name} is a pickle, which can run programs. Convert it: "
            f'python -c "import torch, safetensors.torch as s; s.save_file(torch.load({name!r}, weights_only=True), '
            "'model.safetensors')\"."
        )
        raise ModelError(OwnerMessage(text, NOT_SET_UP))
    if suffix not in SUFFIXES:
        raise failure(path, f"is no model. Give a file of the kind {' or '.join(SUFFIXES)}.")


def _stored(settings: Settings, key: str) -> MeasuredModel | None:
    """Return a stored choice; None if it is missing or invalid, as the model can be measured again."""
    try:
        entry = _read_store(settings)[key]
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entry["model"].items()
        }
        return MeasuredModel(replace(UNKNOWN, **values), tuple(map(float, entry["scores"])))
    except (KeyError, TypeError, ValueError, AttributeError):  # of a damaged file, or of another version
        return None


def _store(settings: Settings, key: str, measured: MeasuredModel) -> None:
    """Store a choice; errors of writing are ignored, as the model can be measured again."""
    values = {name: value for name, value in asdict(measured.model).items() if name not in ORIGIN or name == "network"}
    with _lock, contextlib.suppress(OSError):
        entries = {**_read_store(settings), key: {"model": values, "scores": measured.scores}}
        settings.data.mkdir(parents=True, exist_ok=True)
        files.write(settings.data / STORE, json.dumps(dict(list(entries.items())[-MAX_STORED:]), indent=1).encode())


def _read_store(settings: Settings) -> dict[str, Any]:
    try:
        entries = json.loads((settings.data / STORE).read_bytes())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _no_progress(fraction: float | None, text: str) -> None:
    """Progress callback that reports nothing."""
