"""remove.bg's API over real sockets: each parameter, the formats of body and response, and the errors."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from rmbg import remove_background
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo
from rmbg.rest.parameters import PARAMETERS
from rmbg.rest.removebg import CODES
from rmbg.rest.result import resized
from rmbg.settings import Settings
from tests.remote import picture
from tests.rest.conftest import BOX, HEIGHT, PHOTO, WIDTH, error, pixels
from tests.servers.service import bomb

PNG = b"\x89PNG\r\n\x1a\n"
RED, BLUE = (255, 0, 0), (0, 0, 255)


def solid(color: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), color).save(out, "PNG")
    return out.getvalue()


def box_of(response) -> tuple[int, int, int, int]:
    """Return the bounding box of the subject in a result."""
    return Image.fromarray(pixels(response)[..., 3] > 20).getbbox()


def test_result_is_the_png_of_a_direct_call(remove):
    response = remove(size="auto", rmbg_provider="builtin")
    direct = remove_background(PHOTO, "builtin")
    assert response.content == encode(direct.render(), FORMATS["png"])
    assert response.headers["content-type"] == "image/png"
    facts = {name: response.headers[f"x-{name}"] for name in ("width", "height", "type", "credits-charged")}
    assert facts == {"width": "160", "height": "120", "type": "other", "credits-charged": "0"}


@pytest.mark.parametrize("kind", ["multipart file", "multipart base64", "urlencoded", "JSON", "data URI"])
def test_sources(client, kind):
    text = base64.b64encode(PHOTO).decode()
    bodies = {
        "multipart file": {"files": {"image_file": PHOTO}},
        "multipart base64": {"files": {"image_file_b64": (None, text), "size": (None, "")}},
        "urlencoded": {"data": {"image_file_b64": text}},
        "JSON": {"json": {"image_file_b64": text, "size": None, "crop": False, "shadow_opacity": 30, "unknown": [1]}},
        "data URI": {"json": {"image_file_b64": f"data:image/png;base64,{text}"}},
    }
    assert pixels(client.post("/v1.0/removebg", **bodies[kind])).shape == (HEIGHT, WIDTH, 4)


def test_base64_of_more_than_a_megabyte(client):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    text = base64.b64encode(encode(noise, FORMATS["png"])).decode()
    for body in ({"data": {"image_file_b64": text}}, {"files": {"image_file_b64": (None, text)}}):
        assert client.post("/v1.0/removebg", **body).status_code == 200


def test_json_response(remove):
    response = remove(headers={"Accept": "application/json"})
    data = response.json()["data"]
    assert base64.b64decode(data.pop("result_b64")).startswith(PNG)
    left, top, right, bottom = BOX
    expected = {"top": top, "left": left, "width": right - left, "height": bottom - top}
    assert data == {f"foreground_{name}": value for name, value in expected.items()}
    assert {name: int(response.headers[f"x-foreground-{name}"]) for name in expected} == expected


@pytest.mark.parametrize(
    ("size", "most"),
    [
        ("preview", 0.25),
        ("small", 0.25),
        ("regular", 0.25),
        ("medium", 1.5),
        ("hd", 4),
        ("full", 6),
        ("auto", 6),
        ("4k", 6),
        ("50MP", 6),
    ],
)
def test_size(remove, size, most):
    photo = io.BytesIO()
    Image.effect_noise((2999, 1999), 5).convert("RGB").save(photo, "JPEG")
    height, width = pixels(remove({"image_file": photo.getvalue()}, size=size, format="webp")).shape[:2]
    assert most * 0.99e6 < width * height <= most * 1e6
    assert abs(width / height - 2999 / 1999) < 0.01


def test_preview_is_not_larger_by_rounding():
    sized = resized(Photo(np.zeros((777, 721, 3), np.uint8)), "preview")
    assert 0.99 * 250_000 < sized.width * sized.height <= 250_000


def test_small_photos_are_not_enlarged(remove):
    assert pixels(remove(size="medium")).shape == (HEIGHT, WIDTH, 4)


@pytest.mark.parametrize(
    ("format", "kind", "mode"),
    [("auto", "PNG", "RGBA"), ("png", "PNG", "RGBA"), ("jpg", "JPEG", "RGB"), ("webp", "WEBP", "RGBA")],
)
def test_format(remove, format, kind, mode):
    response = remove(format=format)
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.mode) == (kind, mode)
    assert response.headers["content-type"] == f"image/{kind.lower()}"


def test_format_auto_is_jpg_without_transparency(remove):
    assert remove(bg_color="red").headers["content-type"] == "image/jpeg"
    assert remove(bg_color="ff000080").headers["content-type"] == "image/png"
    assert remove(channels="alpha").headers["content-type"] == "image/png"


def test_zip(remove):
    response = remove(format="zip")
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        color, alpha = (Image.open(io.BytesIO(archive.read(name))) for name in ("color.jpg", "alpha.png"))
        assert archive.namelist() == ["color.jpg", "alpha.png"] and (color.format, alpha.format) == ("JPEG", "PNG")
    assert color.size == alpha.size == (WIDTH, HEIGHT) and alpha.mode == "L"
    assert (np.asarray(alpha) == pixels(remove())[..., 3]).all()
    assert color.getpixel((2, 2))[0] > 150, "colors of the subject, not black, behind the transparent parts"
    with zipfile.ZipFile(io.BytesIO(remove(format="zip", bg_color="0000ff").content)) as archive:
        assert np.asarray(Image.open(io.BytesIO(archive.read("alpha.png")))).min() == 255
    with zipfile.ZipFile(io.BytesIO(remove(format="zip", channels="alpha").content)) as archive:
        assert archive.namelist() == ["alpha.png"]


def test_channels(remove):
    mask = pixels(remove(channels="alpha"))
    assert mask.ndim == 2 and (mask == pixels(remove())[..., 3]).all()


def test_type_is_returned(remove):
    assert remove(type="car").headers["x-type"] == "car"
    assert "x-type" not in remove(type="car", type_level="none").headers


def test_roi(remove):
    assert box_of(remove(roi="50% 0px 100% 100%")) == (101, 41, 140, 80), "the subject of this region alone"
    assert box_of(remove(roi="80px 0% 160px 120px")) == (101, 41, 140, 80)
    assert box_of(remove()) == box_of(remove(roi="0% 0% 100% 100%")) == BOX


def test_roi_in_pixels_is_that_of_the_photo(remove):
    photo = {"image_file": picture(1600, 1200)}
    left, top, right, bottom = box_of(remove(photo, roi="800px 0px 1600px 1200px", size="preview"))
    assert (left, right) == pytest.approx((360, 505), abs=4) and (top, bottom) == pytest.approx((145, 289), abs=4)


def test_roi_with_own_alpha(remove):
    image = Image.open(io.BytesIO(PHOTO)).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 128))
    out = io.BytesIO()
    image.save(out, "PNG")
    alpha = pixels(remove({"image_file": out.getvalue()}, roi="50% 0% 100% 100%"))[..., 3]
    assert alpha.max() == 128 and (alpha[:, :80] == 0).all()


@pytest.mark.parametrize(
    ("margin", "size", "offset"),
    [
        ("", (59, 59), (0, 0)),
        ("10px", (79, 79), (10, 10)),
        ("10%", (71, 71), (6, 6)),
        ("40px", (139, 139), (40, 40)),
        ("0px 20px", (99, 59), (20, 0)),
        ("1px 2px 3px 4px", (65, 63), (4, 1)),
    ],
)
def test_crop_and_its_margin(remove, margin, size, offset):
    whole, response = pixels(remove()), remove(crop="true", crop_margin=margin)
    result = pixels(response)
    assert result.shape[1::-1] == size == (int(response.headers["x-width"]), int(response.headers["x-height"]))
    left, top, right, bottom = BOX
    x, y = offset
    assert (result[y : y + 59, x : x + 59] == whole[top:bottom, left:right]).all(), "the pixels are not resampled"
    assert response.headers["x-foreground-left"] == str(left)


def test_crop_margin_without_crop_is_ignored(remove):
    assert pixels(remove(crop_margin="10px")).shape == (HEIGHT, WIDTH, 4)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scale": "100%"}, (20, 0, 140, 120)),
        ({"scale": "50%"}, (50, 30, 110, 90)),
        ({"scale": "50%", "position": "0%"}, (0, 0, 60, 60)),
        ({"scale": "50%", "position": "100% 0%"}, (100, 0, 160, 60)),
        ({"scale": "50%", "position": "original"}, (50, 30, 110, 90)),
        ({"position": "0% 100%"}, (0, 61, 59, 120)),
        ({"position": "center"}, (50, 30, 109, 89)),
        ({"position": "original"}, BOX),
        ({"position": "100%", "crop": "true"}, (0, 0, 59, 59)),
    ],
)
def test_scale_and_position(remove, fields, expected):
    assert box_of(remove(**fields)) == pytest.approx(expected, abs=2)


def test_shadows(remove):
    plain = pixels(remove())
    for fields in ({"add_shadow": "true"}, *({"shadow_type": kind} for kind in ("auto", "drop", "3D", "car"))):
        shadow, faint = (pixels(remove(**fields, **more))[..., 3].astype(int) for more in ({}, {"shadow_opacity": "5"}))
        assert shadow.sum() > faint.sum() > plain[..., 3].sum(), fields
    assert (pixels(remove(shadow_type="none", add_shadow="false")) == plain).all()
    ground, drop = (pixels(remove(shadow_type=kind))[..., 3] for kind in ("car", "drop"))
    assert ground[60, 120] == 0 < drop[60, 112], "a shadow on the ground is below the subject"


@pytest.mark.parametrize("color", ["0000ff", "#0000ff", "00f", "00ff", "0000ffff", "blue"])
def test_background_color(remove, color):
    assert tuple(pixels(remove(bg_color=color, format="png"))[2, 2]) == BLUE


def test_translucent_background_color(remove):
    result = pixels(remove(bg_color="0000ff80"))
    assert tuple(result[2, 2]) == (*BLUE, 128) and result[60, 80, 3] == 255
    assert (result[60, 80, :3] == pixels(remove())[60, 80, :3]).all()
    mask = pixels(remove(bg_color="0000ff80", channels="alpha"))
    assert mask.ndim == 2 and mask[2, 2] == 0


def test_background_file(remove):
    result = pixels(remove({"image_file": PHOTO, "bg_image_file": solid(RED)}, format="png"))
    assert tuple(result[2, 2]) == RED and result.shape == (HEIGHT, WIDTH, 3)
    assert error(remove({"image_file": PHOTO, "bg_image_file": b"no picture"})) == (400, "invalid_file_type")


def test_semitransparency_has_no_effect(remove):
    assert remove(semitransparency="false").content == remove().content


def test_extensions(remove):
    plain = pixels(remove())[..., 3].astype(int)
    for fields, larger in (
        ({"rmbg_shift": "3"}, True),
        ({"rmbg_shift": "-3"}, False),
        ({"rmbg_invert": "true"}, True),
        ({"rmbg_outline": "5px,#ff0000"}, True),
        ({"rmbg_shadow": "soft"}, True),
        ({"rmbg_contact_shadow": "soft"}, True),
        ({"rmbg_specks": "99999999"}, False),
    ):
        assert (pixels(remove(**fields))[..., 3].sum() > plain.sum()) == larger, fields
    for fields in ({"rmbg_feather": "4"}, {"rmbg_smooth": "9"}, {"rmbg_alpha_matting": "closed-form"}):
        assert (pixels(remove(**fields))[..., 3] != plain).any(), fields
    narrow = pixels(remove(rmbg_alpha_matting="closed-form", rmbg_alpha_matting_erode_size="3"))
    assert (narrow != pixels(remove(rmbg_alpha_matting="closed-form"))).any()
    for fields in ({"rmbg_largest": "true"}, {"rmbg_holes": "5"}):
        assert (pixels(remove(**fields))[..., 3] == plain).all(), fields
    assert tuple(pixels(remove(rmbg_background="gradient:#ff0000,#0000ff", format="png"))[0, 0]) == RED
    assert len(remove(format="jpg", rmbg_quality="5").content) < len(remove(format="jpg").content) / 2
    levels = {"rmbg_alpha_matting_foreground_threshold": "10", "rmbg_alpha_matting_background_threshold": "240"}
    assert error(remove(rmbg_alpha_matting="closed-form", **levels)) == (400, "invalid_rmbg_alpha_matting")


def test_canvas(remove):
    response = remove(rmbg_canvas="200x100", rmbg_padding="10px")
    assert box_of(response) == pytest.approx((60, 10, 140, 90), abs=2) and response.headers["x-width"] == "200"
    assert box_of(remove(rmbg_canvas="200x100", rmbg_padding="10px", position="0%")) == pytest.approx((10, 10, 90, 90), abs=2)
    assert box_of(remove(rmbg_canvas="200x100", scale="50%")) == pytest.approx((78, 28, 122, 72), abs=2)
    assert error(remove(rmbg_canvas="200x100", crop="true")) == (400, "invalid_rmbg_canvas")


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if p.read or p.kind != "text"], ids=lambda p: p.name)
def test_invalid_value_of_each_parameter(client, disc, parameter):
    body = {"image_file_b64": base64.b64encode(PHOTO).decode()}
    for value in ("§", {"a": 1}):
        response = client.post("/v1.0/removebg", json=body | {parameter.name: value})
        assert error(response) == (400, f"invalid_{parameter.name}")
        assert parameter.name.rpartition("_")[2] in response.json()["errors"][0]["detail"] or "§" in response.text
    assert not disc.calls


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"roi": "0% 0% 100%"}, "invalid_roi"),
        ({"roi": "0% 0% 101% 100%"}, "invalid_roi"),
        ({"roi": "0px 0px 161px 20px"}, "roi_exceeds_bounds"),
        ({"roi": "50% 50% 50% 60%"}, "roi_region_empty"),
        ({"crop_margin": "51%"}, "invalid_crop_margin"),
        ({"crop_margin": "501px"}, "invalid_crop_margin"),
        ({"crop_margin": "1px 1px 1px"}, "invalid_crop_margin"),
        ({"scale": "9%"}, "invalid_scale"),
        ({"position": "1% 2% 3%"}, "invalid_position"),
        ({"shadow_opacity": "101"}, "invalid_shadow_opacity"),
        ({"rmbg_provider": "none"}, "invalid_rmbg_provider"),
        ({"rmbg_canvas": "16x99999"}, "invalid_rmbg_canvas"),
        ({"rmbg_background": "/etc/hostname"}, "invalid_rmbg_background"),
        ({"bg_color": "x" * 5000}, "invalid_bg_color"),
        ({"bg_color": "red", "bg_image_url": "https://example.com/a.png"}, "multiple_bg_sources"),
        ({"bg_image_url": "ftp://example.com/a.png"}, "invalid_bg_image_url"),
        ({"image_url": "https://example.com/a.png"}, "multiple_sources"),
    ],
)
def test_invalid_values(remove, fields, code):
    assert error(remove(**fields)) == (400, code)


def test_errors_of_the_picture(remove, client, monkeypatch):
    monkeypatch.setenv("RMBG_MAX_BYTES", "300000")
    black = io.BytesIO()
    Image.new("RGB", (50, 50)).save(black, "PNG")
    for data, code in (
        (b"", "missing_source"),
        (b"%PDF-1.7 no picture", "invalid_file_type"),
        (PHOTO[: len(PHOTO) // 2], "failed_to_read_image"),
        (bytes(300_001), "file_too_large"),
        (bomb(), "resolution_too_high"),
        (black.getvalue(), "unknown_foreground"),
    ):
        assert error(remove({"image_file": data})) == (400, code)
    for body, code in (
        ({"json": {"image_file_b64": "no base64!"}}, "failed_to_read_image"),
        ({"json": {"image_url": "no address"}}, "invalid_image_url"),
        ({"json": {"image_url": 5}}, "invalid_image_url"),
        ({"json": {}}, "missing_source"),
        ({"data": {"image_file": "text"}}, "invalid_image_file"),
        ({"content": PHOTO}, "missing_source"),
        ({"content": b"[1]", "headers": {"Content-Type": "application/json"}}, "invalid_request"),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, "invalid_request"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "invalid_request"),
        ({"data": {f"field{number}": "1" for number in range(300)}}, "invalid_request"),
    ):
        assert error(client.post("/v1.0/removebg", **body)) == (400, code), body


def test_errors_of_the_provider(remove, disc, monkeypatch):
    disc.broken = ["photo"]
    assert error(remove()) == (500, "internal_error")
    response = remove(rmbg_provider="fal-rmbg-2.0")
    assert error(response) == (503, "provider_not_ready") and response.headers["retry-after"] == "10"
    monkeypatch.setattr("tests.disc.Disc.cut", lambda *_: 1 / 0)
    response = remove()
    assert error(response) == (500, "internal_error") and "division" not in response.text


def test_methods(client):
    assert error(client.get("/v1.0/removebg")) == (405, "method_not_allowed")
    assert error(client.put("/v1.0/account")) == (405, "method_not_allowed")
    assert client.get("/v1.0/other").status_code == 404
    assert client.post("/v1.0/other").status_code == 405


def test_account(client):
    attributes = client.get("/v1.0/account").json()["data"]["attributes"]
    assert set(attributes["credits"]) == {"total", "subscription", "payg", "enterprise"} and attributes["api"]["sizes"] == "all"


def test_improve_stores_nothing(client, disc):
    before = set(Settings.from_environ().data.rglob("*"))
    answer = client.post("/v1.0/improve", files={"image_file": PHOTO})
    assert answer.status_code == 200 and "nothing was stored" in answer.json()["detail"]
    assert not disc.calls and set(Settings.from_environ().data.rglob("*")) <= before


def test_document_lists_parameters_and_errors(client):
    document = client.get("/v1.0/openapi.json").json()
    operation = document["paths"]["/removebg"]["post"]
    bodies = {kind: set(body["schema"]["properties"]) for kind, body in operation["requestBody"]["content"].items()}
    names = {parameter.name for parameter in PARAMETERS}
    assert bodies["multipart/form-data"] == names
    assert bodies["application/json"] == bodies["application/x-www-form-urlencoded"] == names - {"image_file", "bg_image_file"}
    described = " ".join(response["description"] for response in operation["responses"].values())
    assert all(code in described for code in CODES)
    assert document["openapi"].startswith("3.1") and json.dumps(document)
