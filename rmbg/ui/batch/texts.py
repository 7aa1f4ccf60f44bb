"""Messages of a batch without the paths of the server."""

from __future__ import annotations

import re

from rmbg.ui.messages import for_visitor
from rmbg.ui.workspace import workspace


def visible(text: str) -> str:
    """Return a message for visitors, without the paths of the server's temporary files."""
    pattern = re.escape(str(workspace().folder.parent)) + r"[^\s'\":;,]*[^\s'\":;,.]"
    shown = for_visitor(text)
    return re.sub(pattern, "the disk of this server", shown) if re.search(pattern, shown) else shown
