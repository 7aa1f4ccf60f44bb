"""``remove`` and ``new_session`` with the signatures of rembg 2.0.

    from rmbg.compat.rembg import new_session, remove

replaces ``from rembg import new_session, remove``. Differences: colors of soft edges are decontaminated, also without
``decontaminate`` and alpha matting; ``vitmatte`` computes large photos in tiles instead of at 1024 x 1024, by the checkpoint
``small-composition-1k``; a photo without a subject raises NoSubjectError instead of an empty picture; sessions share their
loaded networks; without a model name the best free provider that is ready runs, as the weights of ``bria-rmbg`` need an
accepted license here; the model ``sam`` takes one point or one rectangle as ``sam_prompt``, and finds the subject without one;
the model ``u2net_cloth_seg`` returns one cutout of all clothes; a ``model_path`` may be anywhere.

https://github.com/danielgatis/rembg/blob/main/rembg/bg.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo, open_photo
from rmbg.inference.catalog import IMAGENET_MEAN, IMAGENET_STD, VITMATTE
from rmbg.matting.edges import AlphaMatting
from rmbg.providers import find, open_model
from rmbg.remove import check_alpha_matting, keep_if_paid, remove_background
from rmbg.settings import Settings

#: Provider for each of rembg's models that has another name here.
MODELS = {
    "bria-rmbg": "rmbg-2.0",
    "birefnet-general": "birefnet",
    "birefnet-general-fp16": "birefnet",
    "birefnet-general-lite": "birefnet-lite",
    "u2net_human_seg": "u2net-human-seg",
    "u2net_cloth_seg": "u2net-cloth-seg",
}

#: Input size, mean and standard deviation of the models that run the file `model_path`, as in rembg.
CUSTOM_MODELS: dict[str, dict[str, Any]] = {
    "u2net_custom": {"size": 320, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "dis_custom": {"size": 1024, "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)},
    "ben_custom": {"size": 1024, "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)},
}

#: Models of rembg that are services and not available here.
SERVICES = ("withoutbg", "atlascloud")


class _Default(str):
    """The default model of rembg, of a caller who has not chosen one."""


#: Standard deviation and radius of the Gaussian of `post_process_mask`, in pixels, and its threshold.
SIGMA, RADIUS, THRESHOLD = 2.0, 2, 127


@dataclass(frozen=True)
class Session:
    """A choice of model, as `new_session` returns it.

    Attributes
    ----------
    model_name : str
        Name given to `new_session`.
    provider : str
        Id of the provider that runs.
    """

    model_name: str
    provider: str


def new_session(model_name: str = _Default("bria-rmbg"), *args: Any, sess_opts: Any = None, **kwargs: Any) -> Session:
    """Return a session for a model of rembg or for a provider of this package.

    Parameters
    ----------
    model_name : str
        A model of rembg, ``auto`` or the id of a provider, such as ``rmbg-2.0``; by default ``auto``. The services among the
        providers charge for each picture.
    model_path : str
        Keyword for ``u2net_custom``, ``dis_custom`` and ``ben_custom``: the ONNX file.
    *args, sess_opts, **kwargs
        Accepted for compatibility and not used.

    Raises
    ------
    ValueError
        If there is no such model, or a custom one has no `model_path`.
    RmbgError
        If the file of a custom model cannot be used.
    """
    if model_name in SERVICES:
        raise ValueError(f"The model {model_name!r} of rembg is a service that is not available here.")
    if model_name in CUSTOM_MODELS:
        if not kwargs.get("model_path"):
            raise ValueError(f"The model {model_name!r} needs model_path, the path of an ONNX file.")
        options = {**CUSTOM_MODELS[model_name], "resampling": "lanczos", "minmax_normalize": True, "force": True}
        return Session(model_name, open_model(kwargs["model_path"], options).id)
    provider = "auto" if isinstance(model_name, _Default) else MODELS.get(model_name, model_name)
    find(provider)  # raises OptionError, which is a ValueError
    return Session(model_name, provider)


def remove(
    data: bytes | Image.Image | np.ndarray,
    alpha_matting: bool = False,
    alpha_matting_foreground_threshold: int = 240,
    alpha_matting_background_threshold: int = 10,
    alpha_matting_erode_size: int = 10,
    session: Session | None = None,
    only_mask: bool = False,
    post_process_mask: bool = False,
    decontaminate: bool = False,
    vitmatte: bool = False,
    vitmatte_model: str | None = None,
    bgcolor: tuple[int, int, int, int] | None = None,
    force_return_bytes: bool = False,
    *args: Any,
    **kwargs: Any,
) -> bytes | Image.Image | np.ndarray:
    """Remove the background of a picture.

    Parameters
    ----------
    data : bytes, PIL image or uint8 array (H, W), (H, W, 3) or (H, W, 4)
    alpha_matting : bool
        Compute the edge by closed-form alpha matting.
    alpha_matting_foreground_threshold, alpha_matting_background_threshold, alpha_matting_erode_size : int
        Trimap of `alpha_matting` and of `vitmatte`, see `AlphaMatting`.
    session : Session, optional
        By default the best free provider that is ready.
    only_mask : bool
        Return the mask as a gray picture, without alpha matting.
    post_process_mask : bool
        Make the mask binary with a smooth outline, before alpha matting.
    decontaminate : bool
        Accepted for compatibility: colors of soft edges are always decontaminated. With `putalpha`, which has precedence, they
        never are.
    vitmatte : bool
        Compute the edge by ViTMatte, whose weights are downloaded on first use; has precedence over `alpha_matting`.
    vitmatte_model : str, optional
        Checkpoint of `vitmatte`: ``small-composition-1k``, which is the default.
    bgcolor : tuple of 4 int, optional
        Color (red, green, blue, alpha) behind the subject.
    force_return_bytes : bool
        Return bytes also for a PIL image or an array.
    putalpha : bool
        Keyword: keep the colors of the photo, also those of removed pixels.
    sam_prompt : list of dict
        Keyword for the model ``sam``: ``[{"type": "point", "data": [x, y], "label": 1}]``, or a rectangle with the data
        ``[left, top, right, bottom]``, in pixels.
    *args, **kwargs
        Accepted for compatibility and not used.

    Returns
    -------
    bytes, PIL image or uint8 array
        PNG for bytes, otherwise the type of `data`: RGBA, or gray for a mask.

    Raises
    ------
    ValueError
        If `data` is of another type, `sam_prompt` is neither one point on the subject nor one rectangle, or `vitmatte_model` is
        another checkpoint.
    RmbgError
        One of the errors of ``rmbg.errors``.
    """
    if not isinstance(data, (bytes, Image.Image, np.ndarray)):
        raise ValueError(f"Input type {type(data)} is not supported")
    source = Image.fromarray(data) if isinstance(data, np.ndarray) else data
    matting = None
    if (vitmatte or alpha_matting) and not only_mask:
        thresholds = (alpha_matting_foreground_threshold, alpha_matting_background_threshold, alpha_matting_erode_size)
        matting = AlphaMatting(*thresholds, method=_vitmatte(vitmatte_model) if vitmatte else "closed-form")
    settings = Settings.from_environ()
    photo, provider = open_photo(source, settings=settings), session.provider if session else "auto"
    options = _sam_options(kwargs["sam_prompt"], photo) if provider in ("sam", "sam2") and kwargs.get("sam_prompt") else {}
    check_alpha_matting(matting, settings)
    cutout = remove_background(photo, provider, options, settings=settings)
    with keep_if_paid([cutout], settings):
        if post_process_mask:
            cutout = _post_processed(cutout)
        if matting is not None:
            cutout = cutout.refined(matting, environment=settings)
        pixels = _pixels(cutout, only_mask, bool(kwargs.get("putalpha")), bgcolor)
        if isinstance(data, bytes) or force_return_bytes:
            return encode(pixels, FORMATS["png"])
    return Image.fromarray(pixels) if isinstance(data, Image.Image) else pixels


def _vitmatte(model: str | None) -> str:
    """Return the method of alpha matting for a checkpoint of ViTMatte by its name in rembg; raises ValueError for others."""
    available = VITMATTE.hub.rpartition("/vitmatte-")[2]
    if model not in (None, available):
        raise ValueError(f"vitmatte_model {model!r} is not available; use {available!r}, which is also the default.")
    return "vitmatte"


def _sam_options(prompt: Any, photo: Photo) -> dict[str, str]:
    """Convert a prompt in pixels to the option ``point`` or ``box``, in fractions of the photo."""
    match prompt:
        case [{"type": "point", "data": [_, _] as data, "label": 1}]:
            name = "point"
        case [{"type": "rectangle", "data": [_, _, _, _] as data}]:
            name = "box"
        case _:
            raise ValueError("sam_prompt is supported with one point of label 1, or with one rectangle.")
    fractions = (value / size for value, size in zip(data, (photo.width, photo.height) * 2, strict=False))
    return {name: ",".join(str(min(1.0, max(0.0, fraction))) for fraction in fractions)}


def _pixels(cutout: Cutout, only_mask: bool, putalpha: bool, color: tuple[int, int, int, int] | None) -> np.ndarray:
    """Render a cutout: uint8 (H, W) for a mask, (H, W, 4) otherwise."""
    mask = cutout.render(view="mask")
    if only_mask:
        return mask
    pixels = np.dstack([cutout.photo.rgb, mask]) if putalpha else cutout.render()
    if color is None:
        return pixels
    background = Image.new("RGBA", (cutout.width, cutout.height), tuple(color))
    return np.asarray(Image.alpha_composite(background, Image.fromarray(pixels)))


def _post_processed(cutout: Cutout) -> Cutout:
    """Apply opening, Gaussian and threshold to the matte, and estimate the foreground again."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    from rmbg.matting.foreground import finish

    mask = ndimage.grey_opening(cutout.render(view="mask"), footprint=ndimage.generate_binary_structure(2, 1))
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), SIGMA, radius=RADIUS, mode="mirror")
    matte, foreground = finish(cutout.photo, (blurred >= THRESHOLD).astype(np.float32), own_alpha_applied=True)
    return replace(cutout, matte=matte, foreground=foreground)
