"""The API, called by gradio_client: /remove_background, /replace_background and /list_providers."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from rmbg.cli import batch, compare, remove, replace
from rmbg.providers import PROVIDERS
from tests.pictures import iou, scene
from tests.remote import environment
from tests.servers.fal import Fal
from tests.servers.removebg import RemoveBg

#: Parameters of the API that have another name than the option of the command line.
NAMES = {"input": "image", "option": "options", "yes": "confirm_paid", "alpha_matting_method": "alpha_matting"}

#: Options of the command line that are no parameters: those of its own files and models, and what the owner decides.
OWN = {"output", "out", "json", "jobs", "ray", "retry", "allow_host", "model", "model_option", "force"}


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


def test_own_mask_and_alpha_matting(client, photo, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.where(np.arange(400) < 200, 255, 0).astype(np.uint8)[None].repeat(300, 0)).save(mask)
    call = {"image": handle_file(str(photo)), "mask": handle_file(str(mask)), "api_name": "/remove_background"}
    plain, refined = (
        np.asarray(Image.open(client.predict(**call, alpha_matting=method)))[..., 3] for method in ("", "closed-form")
    )
    assert (plain[:, :200] == 255).all() and (plain[:, 200:] == 0).all()
    assert (refined != plain).any() and (refined[:, :150] == 255).all()


def test_arguments_of_the_command_line(client, photo, tmp_path):
    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(picture)
    call = {"image": handle_file(str(photo)), "api_name": "/remove_background"}
    cropped = Image.open(client.predict(**call, crop=0, background_picture=handle_file(str(picture))))
    assert cropped.mode == "RGB" and cropped.width < 400 and cropped.height < 300
    sizes = [Path(client.predict(**call, format="jpeg", quality=quality)).stat().st_size for quality in (5, 95)]
    assert sizes[0] < sizes[1] / 2
    passport = Image.open(client.predict(**call, canvas="passport", background=""))
    assert passport.mode == "RGB" and min(passport.getpixel((2, 2))) > 200, "the background that the preset prescribes"
    contained = client.predict(
        **call, background_picture=handle_file(str(picture)), background_fit="contain", background_position="0,100"
    )
    assert Image.open(contained).getpixel((2, 2)) == (255, 255, 255) != Image.open(contained).getpixel((2, 297))


def test_providers_are_listed_for_visitors(client, monkeypatch):
    monkeypatch.setenv("RMBG_SHARED", "1")
    rows = {row["id"]: row for row in client.predict(api_name="/list_providers")}
    assert set(rows) == set(PROVIDERS)
    assert rows["builtin"]["key_header"] is None and rows["fal-rmbg-2.0"]["key_header"] == "X-Fal-Key"
    assert not any("RMBG_" in row["status"]["text"] or "FAL_KEY" in row["status"]["text"] for row in rows.values())


@pytest.mark.parametrize("endpoint", ["/remove_background", "/compare"])
def test_key_of_the_caller_is_a_header(app, photo, tmp_path, monkeypatch, caplog, endpoint):
    with RemoveBg() as service:
        monkeypatch.setenv("RMBG_REMOVEBG_URL", f"{service.url}/v1.0")
        monkeypatch.setenv("RMBG_RESULT_HOSTS", "127.0.0.1")
        monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
        headers = {"X-Removebg-Api-Key": service.key}
        client = Client(app, verbose=False, download_files=str(tmp_path / "downloads"), headers=headers)
        image = handle_file(str(photo))
        arguments = {
            "/remove_background": {"image": image, "provider": "removebg"},
            "/compare": {"image": image, "providers": "builtin,removebg", "confirm_paid": True},
        }
        result = client.predict(**arguments[endpoint], api_name=endpoint)
        client.close()
        assert len(service.jobs) == 1
        assert service.key not in str(result) and service.key not in caplog.text
        assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file() and service.key.encode() in p.read_bytes()]


def test_replacement_needs_consent_and_returns_the_pictures(app, photo, tmp_path, monkeypatch):
    with Fal() as service:
        for name, value in environment(service, tmp_path / "data").items():
            monkeypatch.setenv(name, value)
        client = Client(app, verbose=False, download_files=str(tmp_path / "downloads"), headers={"X-Fal-Key": service.key})
        call = {"image": handle_file(str(photo)), "prompt": "a table", "num_images": 2, "api_name": "/replace_background"}
        with pytest.raises(AppError, match=r"expected to cost .*Set confirm_paid"):
            client.predict(**call)
        assert not service.jobs
        summary, files = client.predict(**call, confirm_paid=True, format="jpeg")
        client.close()
    assert [Image.open(path).format for path in files] == ["JPEG", "JPEG"]
    assert summary["cost"]["basis"] == "charged" and summary["provider"] == "fal-replace"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"provider": "missing"}, "choose from auto, builtin"),
        ({"background": "/etc/hostname"}, "is not a background"),
        ({"canvas": "wall"}, "no canvas"),
        ({"feather": 101}, "feather is 101; it must be a number of pixels from 0 to 100"),
        ({"crop": 0.1, "canvas": "square"}, "Both a crop and a canvas"),
        ({"quality": 101}, "between 1 and 100"),
        ({"options": '{"missing": 1}'}, "has no option 'missing'"),
        ({"background_fit": "contain"}, "without a picture as background"),
        ({"alpha_matting": "best"}, "method is 'best'; it must be one of closed-form, vitmatte"),
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
    assert set(named) == {"/remove_background", "/compare", "/batch", "/replace_background", "/list_providers"}
    names = [p["parameter_name"] for p in named["/remove_background"]["parameters"]]
    assert names[:5] == ["image", "provider", "background", "mask_only", "format"], "the order is public"
    assert names[5:10] == ["canvas", "padding", "shadow", "contact_shadow", "outline"]
    assert names[10:17] == ["largest", "specks", "holes", "smooth", "shift", "feather", "invert"]
    assert names[17:21] == ["quality", "crop", "scale", "position"] and names[-2:] == ["options", "mask"]
    assert all(p["parameter_has_default"] for p in named["/remove_background"]["parameters"][1:])


@pytest.mark.parametrize(
    ("command", "endpoint"),
    [(remove, "/remove_background"), (batch, "/batch"), (compare, "/compare"), (replace, "/replace_background")],
)
def test_every_option_of_the_command_line_is_a_parameter(client, command: ModuleType, endpoint: str):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    parameters = {p["parameter_name"] for p in named[endpoint]["parameters"]}
    parser = argparse.ArgumentParser(add_help=False)
    command.add_arguments(parser)
    names = NAMES | {"input": "images"} if command is batch else NAMES
    options = {action.dest for action in parser._actions} - OWN
    assert len(options) >= 4
    assert {names.get(option, option.removeprefix("option_")) for option in options} <= parameters
