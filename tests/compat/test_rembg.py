"""Drop-in replacement of rembg: signature, types in and out, options."""

from __future__ import annotations

import ast
import inspect
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from rmbg.compat.rembg import CUSTOM_MODELS, SERVICES, new_session, remove
from rmbg.errors import NotReadyError
from rmbg.matting.edges import AlphaMatting
from rmbg.matting.matte import make_trimap
from rmbg.providers import PROVIDERS, find
from tests.benchmark.fakes import Fake
from tests.onnx_files import color_network
from tests.pictures import examples, iou, truth

PATH = next(path for path in examples() if path.stem == "teapot")

#: Parameters of ``remove`` of rembg 2.0.86 and their defaults.
PARAMETERS = {
    "data": inspect.Parameter.empty,
    "alpha_matting": False,
    "alpha_matting_foreground_threshold": 240,
    "alpha_matting_background_threshold": 10,
    "alpha_matting_erode_size": 10,
    "session": None,
    "only_mask": False,
    "post_process_mask": False,
    "decontaminate": False,
    "vitmatte": False,
    "vitmatte_model": None,
    "bgcolor": None,
    "force_return_bytes": False,
    "args": inspect.Parameter.empty,
    "kwargs": inspect.Parameter.empty,
}


@pytest.fixture(scope="module")
def photo():
    with Image.open(PATH) as image:
        return image.convert("RGB").resize((408, 510))


@pytest.fixture(scope="module")
def cutout(photo):
    return remove(photo)


def test_signature():
    assert {name: p.default for name, p in inspect.signature(remove).parameters.items()} == PARAMETERS


def test_types_of_the_input_are_returned(photo, cutout):
    assert isinstance(cutout, Image.Image) and cutout.mode == "RGBA" and cutout.size == photo.size
    array = remove(np.asarray(photo))
    assert isinstance(array, np.ndarray) and np.array_equal(array, np.asarray(cutout))
    file = io.BytesIO()
    photo.save(file, "PNG")
    data = remove(file.getvalue())
    assert isinstance(data, bytes) and np.array_equal(np.asarray(Image.open(io.BytesIO(data))), array)
    forced = remove(photo, force_return_bytes=True, only_mask=True)
    assert isinstance(forced, bytes) and Image.open(io.BytesIO(forced)).mode == "L"
    with pytest.raises(ValueError, match="is not supported"):
        remove("photo.jpg")


def test_mask_is_the_alpha_of_the_cutout(photo, cutout):
    mask = remove(photo, only_mask=True)
    assert mask.mode == "L" and np.array_equal(np.asarray(mask), np.asarray(cutout)[..., 3])
    true = np.asarray(Image.fromarray((truth(PATH) * 255).astype(np.uint8)).resize(photo.size))
    assert iou(np.asarray(mask) / 255, true / 255) > 0.9


def test_background_color(photo, cutout):
    colored = np.asarray(remove(photo, bgcolor=(255, 0, 255, 255)))
    assert colored.shape[2] == 4 and (colored[..., 3] == 255).all()
    removed = np.asarray(cutout)[..., 3] == 0
    assert removed.mean() > 0.3 and (colored[removed] == (255, 0, 255, 255)).all()
    half = np.asarray(remove(photo, bgcolor=(0, 0, 0, 128)))
    assert (half[removed][:, 3] == 128).all()


def test_post_processed_mask_is_binary_and_close(photo, cutout):
    mask = np.asarray(remove(photo, only_mask=True, post_process_mask=True))
    alpha = np.asarray(cutout)[..., 3]
    assert set(np.unique(mask)) == {0, 255} and len(np.unique(alpha)) > 50
    assert iou(mask / 255, alpha / 255) > 0.98


def test_alpha_matting_changes_the_edge_only(photo, cutout):
    refined = np.asarray(remove(photo, alpha_matting=True, alpha_matting_erode_size=5))[..., 3]
    alpha = np.asarray(cutout)[..., 3]
    assert (refined != alpha).any() and iou(refined / 255, alpha / 255) > 0.9
    mask = remove(photo, only_mask=True, alpha_matting=True, alpha_matting_erode_size=5)
    assert np.array_equal(np.asarray(mask), alpha), "as in rembg, a mask is not refined"


@pytest.fixture
def trimaps(monkeypatch):
    """Trimaps that ViTMatte receives; a fake of it returns 0.5 in their unknown bands."""
    given: list[np.ndarray] = []

    def predict(rgb, trimap, settings, **_):
        given.append(trimap)
        return np.where(trimap == 128, 0.5, trimap == 255).astype(np.float32)

    monkeypatch.setattr("rmbg.cutout.predict_alpha", predict)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return given


def test_vitmatte_has_precedence_and_the_thresholds(photo, cutout, trimaps):
    alpha = np.asarray(remove(photo, alpha_matting=True, vitmatte=True))[..., 3]
    unknown = trimaps[0] == 128
    assert len(trimaps) == 1 and 0.01 < unknown.mean() < 0.5 and (alpha[unknown] == 128).all()
    remove(photo, vitmatte=True, alpha_matting_erode_size=20, vitmatte_model="small-composition-1k")
    remove(photo, vitmatte=True, alpha_matting_foreground_threshold=255, alpha_matting_background_threshold=1)
    assert all((trimap == 128).sum() > unknown.sum() for trimap in trimaps[1:])
    mask = remove(photo, only_mask=True, vitmatte=True)
    assert np.array_equal(np.asarray(mask), np.asarray(cutout)[..., 3]) and len(trimaps) == 3


def test_vitmatte_refines_the_post_processed_mask(photo, trimaps):
    binary = np.asarray(remove(photo, only_mask=True, post_process_mask=True))
    refined = np.asarray(remove(photo, vitmatte=True, post_process_mask=True))[..., 3]
    assert np.array_equal(trimaps[0], make_trimap((binary / 255).astype(np.float32), AlphaMatting()))
    assert np.array_equal(refined == 128, trimaps[0] == 128) and set(np.unique(refined)) == {0, 128, 255}


@pytest.mark.parametrize("model", ["small-distinctions-646", "base-composition-1k", "large"])
def test_other_checkpoints_of_vitmatte_are_rejected(photo, trimaps, model):
    with pytest.raises(ValueError, match=f"vitmatte_model '{model}' is not available; use 'small-composition-1k'"):
        remove(photo, vitmatte=True, vitmatte_model=model)
    assert not trimaps


def test_missing_weights_of_vitmatte_are_reported_before_a_provider_runs(photo, monkeypatch, tmp_path):
    provider = Fake()
    monkeypatch.setitem(PROVIDERS, "fake", provider)
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "RMBG_DATA": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotReadyError, match=r"ViTMatte is not ready: its weights \(103 MB\) are not downloaded"):
        remove(photo, vitmatte=True, session=new_session("fake"))
    assert not provider.calls


def test_colors_are_decontaminated_except_with_putalpha(photo, cutout):
    assert np.array_equal(np.asarray(remove(photo, decontaminate=True)), np.asarray(cutout))
    kept = np.asarray(remove(photo, decontaminate=True, putalpha=True))
    assert np.array_equal(kept[..., :3], np.asarray(photo)) and (kept[..., 3] == 0).any()
    assert np.array_equal(kept, np.asarray(remove(photo, putalpha=True)))
    soft = (kept[..., 3] > 20) & (kept[..., 3] < 235)
    assert (np.asarray(cutout)[soft] != kept[soft]).any()


def test_sessions():
    assert new_session().provider == "auto" and new_session("builtin").provider == "builtin"
    assert new_session("rmbg-2.0", sess_opts=None, providers=["CPUExecutionProvider"]).provider == "rmbg-2.0"
    with pytest.raises(ValueError, match="There is no provider 'other'"):
        new_session("other")
    with pytest.raises(ValueError, match="'withoutbg' of rembg is a service that is not available here"):
        new_session("withoutbg", api_key="some-key")


#: Provider with the network of each model of rembg.
NETWORKS = {
    "birefnet-general": "birefnet",
    "birefnet-general-fp16": "birefnet",
    "birefnet-general-lite": "birefnet-lite",
    "birefnet-portrait": "birefnet-portrait",
    "birefnet-dis": "birefnet-dis",
    "birefnet-hrsod": "birefnet-hrsod",
    "birefnet-cod": "birefnet-cod",
    "birefnet-massive": "birefnet-massive",
    "bria-rmbg": "rmbg-2.0",
    "isnet-anime": "isnet-anime",
    "isnet-general-use": "isnet-general-use",
    "sam": "sam",
    "silueta": "silueta",
    "u2net": "u2net",
    "u2net_cloth_seg": "u2net-cloth-seg",
    "u2net_human_seg": "u2net-human-seg",
    "u2netp": "u2netp",
}


def test_models_of_rembg_select_their_networks():
    assert {name: new_session(name).provider for name in NETWORKS} == NETWORKS


@pytest.mark.parametrize("name", CUSTOM_MODELS)
def test_custom_models_run_their_file(name, tmp_path, photo, monkeypatch):
    """The network of the file separates red from green, at any size; the settings are those of rembg."""
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    path = tmp_path / "network.onnx"
    path.write_bytes(color_network("size"))
    session = new_session(name, model_path=str(path))
    model = find(session.provider).model
    assert session.provider.startswith("model:") and model.size == CUSTOM_MODELS[name]["size"]
    assert (model.mean, model.std) == (CUSTOM_MODELS[name]["mean"], CUSTOM_MODELS[name]["std"])
    mask = np.asarray(remove(photo, session=session, only_mask=True))
    assert mask.shape == (photo.height, photo.width) and mask.min() == 0 and mask.max() >= 254
    with pytest.raises(ValueError, match="needs model_path"):
        new_session(name)


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Signs of the 8 x 8 lowest frequencies of a picture against their median, as rembg's own tests compare results."""
    gray = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = dctn(gray, type=2)[:8, :8]
    return low > np.median(low)


def test_result_looks_like_the_truth(cutout, photo):
    exact = photo.copy()
    exact.putalpha(Image.fromarray((truth(PATH) * 255).astype(np.uint8)).resize(photo.size))
    black = [Image.alpha_composite(Image.new("RGBA", photo.size, "black"), image) for image in (cutout, exact)]
    ours, theirs = map(perceptual_hash, black)
    assert (ours != theirs).sum() <= 4
    assert (ours != perceptual_hash(photo)).sum() > 16, "the background counts"


class Prompted(Fake):
    """Provider with the options of SAM, which it records."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.info = replace(self.info, options=PROVIDERS[name].info.options)
        self.given: list[dict] = []

    def cut(self, photo, options, call):
        self.given.append(dict(options))
        return super().cut(photo, options, call)


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_prompts_of_sam(photo, monkeypatch, name):
    provider = Prompted(name)
    monkeypatch.setitem(PROVIDERS, name, provider)
    session = new_session(name)
    remove(photo, session=session, sam_prompt=[{"type": "point", "data": [204, 51], "label": 1}])
    remove(photo, session=session, sam_prompt=[{"type": "rectangle", "data": [0, 51, 408, 600], "label": 0}])
    assert (provider.given[0]["point"], provider.given[1]["box"]) == ("0.5,0.1", "0.0,0.1,1.0,1.0")
    for prompt in ([{"type": "point", "data": [1, 1], "label": 0}], [{"type": "rectangle", "data": [1, 2]}], "point"):
        with pytest.raises(ValueError, match="one point of label 1, or with one rectangle"):
            remove(photo, session=session, sam_prompt=prompt)


def published_models(folder: Path) -> set[str]:
    """Names of the models of a copy of rembg."""
    sources = [path.read_text(encoding="utf-8") for path in (folder / "rembg" / "sessions").glob("[!_]*.py")]
    found = [re.search(r"def name\(cls.*?return \"([^\"]+)\"", source, re.DOTALL) for source in sources]
    return {match[1] for match in found if match}


def published_signatures(folder: Path) -> dict[str, inspect.Signature]:
    """Signatures of ``remove`` and ``new_session`` of a copy of rembg."""
    names: dict[str, Any] = {}
    for path, name in (("bg.py", "remove"), ("session_factory.py", "new_session")):
        tree = ast.parse((folder / "rembg" / path).read_text(encoding="utf-8"))
        (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        function.body, function.decorator_list, function.returns = [ast.Pass()], [], None
        for argument in ast.walk(function.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        exec(compile(ast.fix_missing_locations(ast.Module([function], [])), path, "exec"), names)
    return {name: inspect.signature(names[name]) for name in ("remove", "new_session")}


def test_names_and_signatures_are_those_of_the_published_rembg(tmp_path):
    """Only the sources of the latest version are installed; the requirements have hundreds of megabytes."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), "rembg"]
    subprocess.run(install, check=True)
    assert published_models(tmp_path) == {*NETWORKS, *CUSTOM_MODELS, *SERVICES}
    theirs = published_signatures(tmp_path)
    for ours in (remove, new_session):
        found = [(p.name, p.kind, p.default) for p in inspect.signature(ours).parameters.values()]
        assert found == [(p.name, p.kind, p.default) for p in theirs[ours.__name__].parameters.values()]


def test_orientation_is_applied(photo):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    photo.save(file, "JPEG", exif=exif)
    assert remove(Image.open(io.BytesIO(file.getvalue())), only_mask=True).size == (photo.height, photo.width)
