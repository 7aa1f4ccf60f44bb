"""Configuration of the page with less work for the browser.

For each status of an event, Gradio's page searches its tree of components once for every component that has ever been an output
of an event, whether its progress is shown or not. It also compares each component with each event when it is opened.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import BlocksConfigDict

#: Class of the rows with the components of an endpoint of the API, which the page does not need.
ENDPOINT = "endpoint"


def report_hidden_progress_to(component: Any, app: gr.Blocks) -> None:
    """Make `component` the only one that receives the status of events whose progress is hidden.

    Events of ``gr.render`` are left as they are: without a status, their containers are not hidden while they are empty.
    """
    for event in app.fns.values():
        if event.show_progress == "hidden" and event.show_progress_on is None and event.renderable is None:
            event.show_progress_on = [component]


def without_endpoints(config: BlocksConfigDict) -> None:
    """Remove the components of the API's endpoints from the pages in a configuration; its list of all components is unchanged.

    The description of the API, which the page shows as well, is made from that list.
    """
    rows = {part["id"] for part in config["components"] if ENDPOINT in (part["props"].get("elem_classes") or ())}
    pages: dict[str, Any] = dict(config["page"])
    for page in pages.values():
        removed: set[int] = set()
        for row in page["layout"].get("children", []):
            if row["id"] in rows:
                removed |= _ids(row)
        page["layout"]["children"] = [row for row in page["layout"].get("children", []) if row["id"] not in removed]
        page["components"] = [number for number in page["components"] if number not in removed]


def _ids(layout: Any) -> set[int]:
    return {layout["id"]}.union(*(_ids(child) for child in layout.get("children", [])))
