"""HTML fragments of the page, rendered from the folder ``templates``."""

from __future__ import annotations

from typing import Any

from rmbg.templates import environment

_ENVIRONMENT = environment("rmbg.ui")


def render(name: str, **values: Any) -> str:
    """Render the template `name`; values are escaped."""
    return _ENVIRONMENT.get_template(name).render(values)
