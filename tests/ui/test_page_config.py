"""The page has fewer components than the API, and progress that is hidden is reported to one component only."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="module")
def text(app: str) -> str:
    """The page as it is sent."""
    return httpx.get(app, trust_env=False, timeout=60).raise_for_status().text


def part(text: str, start: str) -> dict[str, Any]:
    """Return the JSON object that follows `start` in a script of the page."""
    return json.JSONDecoder().raw_decode(text, text.index(start) + len(start))[0]


@pytest.fixture(scope="module")
def page(text: str) -> dict[str, Any]:
    """Configuration of the page."""
    return part(text, "window.gradio_config = ")


@pytest.fixture(scope="module")
def everything(app: str) -> dict[str, Any]:
    """Configuration for clients of the API."""
    return httpx.get(f"{app}/config", trust_env=False, timeout=60).raise_for_status().json()


def ids(layout: dict[str, Any]) -> set[int]:
    return {layout["id"]}.union(*(ids(child) for child in layout.get("children", [])))


def test_page_has_no_components_of_endpoints(page, everything):
    public = [event for event in everything["dependencies"] if event["api_visibility"] == "public"]
    inputs = {number for event in public for number in (*event["inputs"], *event["outputs"])}
    shown = {part["id"] for part in page["components"]}
    assert len(public) == 5 and len(inputs) > 50
    assert inputs <= {part["id"] for part in everything["components"]} and not inputs & shown
    assert ids(page["layout"]) - {page["layout"]["id"]} == shown, "the tree of the page has all of its components"
    used = {number for event in page["dependencies"] if event not in public for number in (*event["inputs"], *event["outputs"])}
    assert used <= shown


def test_hidden_progress_is_reported_to_one_component(page):
    hidden = [event for event in page["dependencies"] if event["show_progress"] == "hidden"]
    own = [event["outputs"] for event in hidden if event["show_progress_on"] is None]
    assert len(hidden) > 100 and len(own) == 2, "only the options of a provider, which gr.render creates"
    assert len({tuple(event["show_progress_on"]) for event in hidden if event["show_progress_on"]}) == 1


def test_page_describes_the_endpoints(text):
    described = part(text, "window.gradio_api_info = ")["named_endpoints"]
    assert len(described) == 5
    assert "contact_shadow" in [each["parameter_name"] for each in described["/remove_background"]["parameters"]]
