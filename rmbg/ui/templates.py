"""HTML fragments of the page, rendered from the folder ``templates``."""

from __future__ import annotations

from typing import Any

from rmbg.runtime.messages import Message
from rmbg.runtime.templates import environment
from rmbg.ui.languages import markup, t

_ENVIRONMENT = environment("rmbg.ui")
_ENVIRONMENT.globals["t"] = markup
_ENVIRONMENT.finalize = lambda value: t(value) if isinstance(value, Message) else value


def render(name: str, **values: Any) -> str:
    """Render the template `name` in the visitor's language.

    Values are escaped, and translated if they are messages; ``t`` translates the texts of the template.
    """
    return _ENVIRONMENT.get_template(name).render(values)
