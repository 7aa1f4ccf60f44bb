"""The public surface is exactly what it is meant to be."""

import rmbg
from rmbg.errors import RmbgError


def test_public_names_are_those_in_all():
    for name in rmbg.__all__:
        assert hasattr(rmbg, name)
    errors = {name for name in rmbg.__all__ if name.endswith("Error")}
    assert errors == {"RmbgError", *(_names(RmbgError))}


def _names(error: type) -> set[str]:
    return {name for sub in error.__subclasses__() for name in (sub.__name__, *_names(sub)) if sub.__module__ == "rmbg.errors"}


def test_errors_are_drawn_at_the_top_of_their_module():
    from rmbg import errors

    for name in {"RmbgError", *_names(RmbgError)}:
        assert name in (errors.__doc__ or "")
