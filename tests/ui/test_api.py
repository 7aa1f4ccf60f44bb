"""The API endpoint /remove_background, called by gradio_client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.pictures import iou, scene


@pytest.fixture(scope="module")
def client(app: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(app, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a subject.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    return path


def test_all_arguments_but_the_picture_are_optional(client, photo):
    result = client.predict(image=handle_file(str(photo)), api_name="/remove_background")
    pixels = np.asarray(Image.open(result))
    assert pixels.shape == (300, 400, 4)
    assert iou(pixels[..., 3] / 255, scene(300, 400)[1]) > 0.9
    assert Path(result).name == "a subject-cutout.png"


def test_mask_and_background_arguments(client, photo):
    call = {"image": handle_file(str(photo)), "provider": "builtin", "api_name": "/remove_background"}
    mask = np.asarray(Image.open(client.predict(**call, mask_only=True, format="webp")).convert("L"))
    assert mask.shape == (300, 400) and mask[150, 200] == 255 and mask[0, 0] == 0
    white = Image.open(client.predict(**call, background="#ffffff", format="jpeg"))
    assert white.mode == "RGB" and min(white.getpixel((1, 1))) > 250
    square = Image.open(client.predict(**call, canvas="300x300", padding="20px", shadow="soft", outline="2px,#ff0000"))
    assert square.mode == "RGBA" and square.size == (300, 300)


def test_clean_up_arguments(client, photo):
    call = {"image": handle_file(str(photo)), "mask_only": True, "api_name": "/remove_background"}
    plain, grown, inverted = (
        np.asarray(Image.open(client.predict(**call, **edges)).convert("L")).astype(int)
        for edges in ({}, {"shift": 5, "specks": 10}, {"invert": True})
    )
    assert (grown > 127).sum() > 1.05 * (plain > 127).sum()
    assert np.abs(inverted + plain - 255).max() <= 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"provider": "missing"}, "choose from auto, builtin"),
        ({"background": "#nothing"}, "is not a background"),
        ({"background": "/etc/hostname"}, "is not a background"),
        ({"format": "bmp"}, "no output format"),
        ({"canvas": "wall"}, "no canvas"),
        ({"shadow": "0,0,1"}, "The shadow is"),
        ({"feather": 101}, "feather is 101; it must be a number of pixels from 0 to 100"),
        ({"holes": -1}, "holes is -1; it must be a whole number"),
    ],
)
def test_invalid_argument_is_reported(client, photo, arguments, message):
    with pytest.raises(AppError, match=message):
        client.predict(image=handle_file(str(photo)), **arguments, api_name="/remove_background")


def test_file_that_is_no_picture_is_rejected(client, tmp_path):
    path = tmp_path / "no.png"
    path.write_bytes(b"%PDF-1.4")
    with pytest.raises(AppError, match="PDF"):
        client.predict(image=handle_file(str(path)), api_name="/remove_background")


def test_only_stable_names_are_public(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/remove_background", "/compare", "/batch"}
    names = [p["parameter_name"] for p in named["/remove_background"]["parameters"]]
    assert names[:5] == ["image", "provider", "background", "mask_only", "format"], "the order is public"
    assert names[5:10] == ["canvas", "padding", "shadow", "contact_shadow", "outline"]
    assert names[10:] == ["largest", "specks", "holes", "smooth", "shift", "feather", "invert"]
    assert all(p["parameter_has_default"] for p in named["/remove_background"]["parameters"][1:])
