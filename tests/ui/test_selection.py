"""The choice of several providers: what is selected at first, its order, and values that the page does not send."""

from __future__ import annotations

import gradio as gr
import pytest

from rmbg.inference.catalog import MODELS
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from rmbg.ui.components.providers import choices, preselected
from rmbg.ui.guard.payload import check_value
from tests.sentences import sentence


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Of a machine with the weights of four networks, and a key of one service."""
    for name in ("rmbg-1.4", "rmbg-2.0", "birefnet-lite", "toonout"):
        (tmp_path / MODELS[name].file_name).write_bytes(b"weights")
    return Settings(weights=tmp_path, data=tmp_path, environ={"HF_HOME": str(tmp_path), "FAL_KEY": "a:b"})


def test_best_and_fastest_providers_are_selected(settings, tmp_path):
    assert preselected(settings, 3) == ["rmbg-2.0", "birefnet-lite", "builtin"]
    assert preselected(settings, 1) == ["builtin"]
    (tmp_path / "birefnet-lite.safetensors").unlink()
    assert preselected(settings, 3) == ["rmbg-2.0", "rmbg-1.4", "builtin"]
    alone = Settings(data=tmp_path, environ={"HF_HOME": str(tmp_path)})
    assert preselected(alone, 3) == preselected(alone, 1) == ["builtin"]


def test_this_machine_comes_before_services_and_ready_ones_first(settings):
    listed = choices(settings)
    ids = [name for _, name in listed]
    assert sorted(ids) == sorted(PROVIDERS)
    assert ids[:5] == ["builtin", "rmbg-1.4", "rmbg-2.0", "birefnet-lite", "toonout"]
    kinds = [PROVIDERS[name].info.kind for name in ids]
    assert kinds == sorted(kinds), "local before remote"
    texts = dict((name, text) for text, name in listed)
    assert texts["ben2"] == "BEN2 · fine hair · 381 MB"
    assert texts["fal-rmbg-2.0"] == "fal: RMBG 2.0 · $0.018 listed"
    assert texts["runware-rmbg-2.0"] == "Runware: RMBG 2.0 · $0.018 listed · needs a key"


@pytest.mark.parametrize("value", ["builtin", [1], {"path": "/etc/passwd"}, [["builtin"]], [{"path": "/etc/passwd"}], True])
def test_other_values_of_a_selection_are_refused(value):
    field = gr.Dropdown(["builtin"], multiselect=True, label="Providers")
    with pytest.raises(gr.Error) as caught:
        check_value(value, field)
    assert "Providers takes a list of texts" in sentence(Exception(caught.value.message))


def test_each_provider_is_selected_once():
    field = gr.Dropdown(["builtin", "near"], multiselect=True)
    assert check_value(["near", "builtin", "near"], field) == ["near", "builtin"]
