"""Background removal with local networks and remote services behind one interface.

>>> from rmbg import remove_background
>>> cutout = remove_background("photo.jpg")  # doctest: +SKIP

Public names are imported lazily. ``import rmbg`` loads neither NumPy nor SciPy, so that the command line can install its
signal handlers first.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rmbg.billing.cost import Cost
    from rmbg.cutout import Cutout
    from rmbg.errors import (
        CancelledError,
        InputError,
        ModelError,
        NoSubjectError,
        NotReadyError,
        OptionError,
        OutputError,
        PhotoError,
        RmbgError,
        ServiceError,
    )
    from rmbg.images.photo import Photo, open_photo
    from rmbg.matting.edges import AlphaMatting, EdgeSettings
    from rmbg.matting.retouch import Stroke
    from rmbg.providers import list_providers, open_model
    from rmbg.remove import remove_background
    from rmbg.render.finishing import Finishing
    from rmbg.replace import replace_background
    from rmbg.version import __version__
del TYPE_CHECKING

__all__ = [
    "AlphaMatting",
    "CancelledError",
    "Cost",
    "Cutout",
    "EdgeSettings",
    "Finishing",
    "InputError",
    "ModelError",
    "NoSubjectError",
    "NotReadyError",
    "OptionError",
    "OutputError",
    "Photo",
    "PhotoError",
    "RmbgError",
    "ServiceError",
    "Stroke",
    "__version__",
    "open_model",
    "open_photo",
    "list_providers",
    "remove_background",
    "replace_background",
]

_MODULES = {
    "AlphaMatting": "rmbg.matting.edges",
    "Cost": "rmbg.billing.cost",
    "Cutout": "rmbg.cutout",
    "EdgeSettings": "rmbg.matting.edges",
    "Finishing": "rmbg.render.finishing",
    "Photo": "rmbg.images.photo",
    "Stroke": "rmbg.matting.retouch",
    "__version__": "rmbg.version",
    "list_providers": "rmbg.providers",
    "open_model": "rmbg.providers",
    "open_photo": "rmbg.images.photo",
    "remove_background": "rmbg.remove",
    "replace_background": "rmbg.replace",
    **{name: "rmbg.errors" for name in __all__ if name.endswith("Error")},
}


def __getattr__(name: str) -> object:
    """Return a public name, imported on first access."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
