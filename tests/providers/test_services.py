"""What each service is asked, option by option, and the ways of asking that are not the usual one."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from rmbg import remove_background
from rmbg.cutout import Cost
from rmbg.errors import NotReadyError, OptionError, RmbgError, ServiceError
from rmbg.providers import PROVIDERS
from rmbg.providers.remote import LOSSLESS_PIXELS, Sent, encoded
from rmbg.providers.runware import task
from rmbg.settings import Settings
from tests.remote import WAYS, cut, hurry, picture, settings  # noqa: F401
from tests.sentences import sentence
from tests.servers.fal import CDN_TOKEN, Fal
from tests.servers.runware import Runware
from tests.servers.service import KEY, Service, cut_out
from tests.servers.web import Exchange
from tests.test_remote import MONEY, expected_matte

pytestmark = pytest.mark.usefixtures("hurry")

SENT = Sent(b"photo", "image/png")


def translucent() -> bytes:
    """A photo whose left half is see-through."""
    pixels = np.asarray(Image.open(io.BytesIO(picture())).convert("RGBA")).copy()
    pixels[:, :48, 3] = 100
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_large_photo_is_sent_as_jpeg_and_transparency_over_white():
    from rmbg.photo import Photo, open_photo

    large = Photo(np.zeros((LOSSLESS_PIXELS // 1000 + 1, 1000, 3), np.uint8))
    assert encoded(large).mime == "image/jpeg"
    photo = open_photo(translucent())
    flat = Image.open(io.BytesIO(encoded(photo).data))
    assert flat.mode == "RGB" and np.array_equal(np.asarray(flat), photo.flattened())
    kept = Image.open(io.BytesIO(encoded(photo, keep_alpha=True).data))
    assert np.array_equal(np.asarray(kept)[..., 3], photo.alpha)


# fal


def test_fal_is_told_what_it_may_keep(tmp_path):
    with Fal() as fal:
        for options in ({}, {"mode": "direct"}, {"store_io": True, "expiration": 60}):
            remove_background(picture(), "fal-rmbg-2.0", options, settings=settings(fal, tmp_path))
        first, second, third = (job["headers"] for job in fal.jobs)
    for headers in (first, second):
        assert headers["x-fal-store-io"] == "0"
        assert json.loads(headers["x-fal-object-lifecycle-preference"]) == {"expiration_duration_seconds": 3600}
    assert "x-fal-store-io" not in third and "60" in third["x-fal-object-lifecycle-preference"]


def test_fal_by_upload(tmp_path):
    with Fal() as fal:
        cutout = cut(fal, tmp_path, "fal queue", input="upload", sync_mode=False)
        assert fal.jobs[0]["arguments"] == {"image_url": f"{fal.url}/files/0.png", "sync_mode": False}
        upload = next(seen for seen in fal.seen if seen.path == "/files/upload")
        assert upload.headers["authorization"] == f"Bearer {CDN_TOKEN}" and upload.headers["content-type"] == "image/png"
        assert "3600" in upload.headers["x-fal-object-lifecycle"]
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


@pytest.mark.parametrize("step", ["token", "upload"])
@pytest.mark.parametrize("name", ["401", "500", "JSON of another shape", "page instead of JSON"])
def test_faults_of_fals_storage_cost_nothing(tmp_path, step, name):
    with Fal() as fal:
        fal.faults[step] = WAYS["fal queue"][3][name]
        with pytest.raises(ServiceError, match=r"Nothing was charged\.$"):
            cut(fal, tmp_path, "fal queue", input="upload")
        assert not fal.jobs


def test_photos_are_not_uploaded_to_any_host(tmp_path):
    with Fal() as fal, Fal() as other:
        fal.host_of_urls = f"localhost:{other.port}"
        with pytest.raises(ServiceError, match=r"localhost is not one of the hosts.* Nothing was charged"):
            cut(fal, tmp_path, "fal queue", input="upload")
        assert not other.seen and not fal.jobs


# Runware


def test_every_parameter_of_bria_2_1():
    info = PROVIDERS["runware-rmbg-2.0"].info
    assert task(info.model, "number", SENT, info.parse_options({})) == {
        "taskType": "removeBackground",
        "taskUUID": "number",
        "model": "bria:2@1",
        "inputs": {"image": SENT.data_uri},
        "outputType": "base64Data",
        "outputFormat": "PNG",
        "outputQuality": 95,
        "deliveryMethod": "sync",
        "includeCost": True,
        "providerSettings": {"bria": {"preserveAlpha": False}},
    }
    given = {
        "outputType": "URL", "outputQuality": "20", "deliveryMethod": "async", "ttl": 60, "includeCost": "off",
        "webhookURL": "https://example.com/hook", "uploadEndpoint": "https://example.com/put", "preserveAlpha": True,
    }  # fmt: skip
    wanted = task(info.model, "number", SENT, info.parse_options(given))
    assert wanted["ttl"] == 60 and wanted["webhookURL"] == "https://example.com/hook"
    assert wanted["uploadEndpoint"] == "https://example.com/put" and wanted["outputFormat"] == "PNG"
    assert wanted["providerSettings"] == {"bria": {"preserveAlpha": True}} and wanted["includeCost"] is False


def test_every_parameter_of_runware_109_1():
    info = PROVIDERS["runware-rembg-1.4"].info
    wanted = task(info.model, "number", SENT, info.parse_options({"outputFormat": "JPG"}))
    assert wanted["settings"] == {"alphaMatting": False, "postProcessMask": False, "returnOnlyMask": False,
                                  "rgba": [255, 255, 255, 0]}  # fmt: skip
    assert wanted["outputFormat"] == "PNG", "a cut-out needs transparency"
    given = {
        "alphaMatting": "yes", "alphaMattingForegroundThreshold": 255, "alphaMattingBackgroundThreshold": 1,
        "alphaMattingErodeSize": 8, "postProcessMask": True, "returnOnlyMask": True, "rgba": "0, 10, 20, 30",
        "outputFormat": "JPG",
    }  # fmt: skip
    wanted = task(info.model, "number", SENT, info.parse_options(given))
    assert wanted["settings"] == {
        "alphaMatting": True, "alphaMattingForegroundThreshold": 255, "alphaMattingBackgroundThreshold": 1,
        "alphaMattingErodeSize": 8, "postProcessMask": True, "returnOnlyMask": True, "rgba": [0, 10, 20, 30],
    }  # fmt: skip
    assert wanted["outputFormat"] == "JPG"


@pytest.mark.parametrize(
    "options",
    [
        {"rgba": "1,2,3"}, {"rgba": "1,2,3,255"}, {"rgba": "1,2,3,256"}, {"rgba": "red"}, {"webhookURL": "http://example.com/"},
        {"uploadEndpoint": "ftp://example.com"}, {"outputQuality": 100}, {"outputQuality": 19}, {"ttl": 59},
        {"alphaMattingErodeSize": 0}, {"outputFormat": "GIF"}, {"seed": 1},
    ],
)  # fmt: skip
def test_runware_options_that_make_no_sense_are_not_sent(options, tmp_path):
    with Runware() as service:
        with pytest.raises(OptionError):
            cut(service, tmp_path, "Runware async", **options)
        assert not service.seen


@pytest.mark.parametrize(
    ("way", "name"),
    [("Runware async", name) for name in ("outputQuality", "outputType", "includeCost", "rgba")]
    + [("fal queue", "none\n" * 99)],
)
def test_what_is_long_does_not_make_a_long_sentence(way, name, tmp_path):
    with WAYS[way][2]() as service, pytest.raises(OptionError) as caught:
        cut(service, tmp_path, way, **{name: "long \0" * 99})
    sentence(caught.value)


@pytest.mark.parametrize("kind", ["URL", "base64Data", "dataURI"])
@pytest.mark.parametrize("mask", [{}, {"returnOnlyMask": True}, {"returnOnlyMask": True, "outputFormat": "JPG"}])
def test_runware_results_of_every_kind(kind, mask, tmp_path):
    with Runware() as service:
        cutout = cut(service, tmp_path, "Runware async", outputType=kind, **mask)
        assert np.abs(cutout.matte - expected_matte(picture())).max() < (0.08 if mask else 0.01)


def test_a_translucent_colour_under_the_cut_out_is_taken_out_again(tmp_path):
    """Alpha a laid under a matte m gives m + (1 - m) a, and m is what is wanted."""
    matte = expected_matte(picture())
    image = np.dstack([np.zeros((64, 96, 3), np.uint8), np.rint((matte + (1 - matte) * 100 / 255) * 255).astype(np.uint8)])
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    with Runware() as service:
        service.picture = out.getvalue()
        cutout = cut(service, tmp_path, "Runware async", rgba="0,0,0,100")
        service.picture = None
        mask = cut(service, tmp_path, "Runware async", rgba="0,0,0,100", returnOnlyMask=True)
    assert np.abs(cutout.matte - matte).max() < 0.01
    assert np.abs(mask.matte - matte).max() < 0.01  # nothing is laid under it


@pytest.mark.parametrize("keep", [True, False])
def test_the_photos_own_alpha_counts_once(keep, tmp_path):
    with Runware() as service:
        cutout = cut(service, tmp_path, "Runware", data=translucent(), preserveAlpha=keep)
    matte = expected_matte(picture())
    matte[:, :48] *= 100 / 255
    # A little more where the white below the photo's alpha changes what the stand-in sees: nothing.
    assert np.abs(cutout.matte - matte).max() < 0.02


# remove.bg


def test_what_remove_bg_is_asked(tmp_path):
    with WAYS["remove.bg"][2]() as service:
        cut(service, tmp_path, "remove.bg")
        cutout = cut(service, tmp_path, "remove.bg", size="auto", type="person", channels="alpha", semitransparency=False)
    assert [job["fields"] for job in service.jobs] == [
        {"size": "full", "type": "auto", "channels": "rgba", "format": "png", "semitransparency": "true"},
        {"size": "auto", "type": "person", "channels": "alpha", "format": "png", "semitransparency": "false"},
    ]
    assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


def test_remove_bg_says_that_it_ends():
    status = PROVIDERS["removebg"].status(Settings.from_environ({}))
    assert status.state == "key" and "2026-12-01" in status.text
    other = PROVIDERS["removebg"].status(
        Settings.from_environ({"RMBG_REMOVEBG_URL": "https://x.example", "REMOVEBG_API_KEY": "k"})
    )
    assert other.text == "ready"


# gigarouter


class Gigarouter(Service):
    """What gigarouter may be like one day."""

    def __init__(self, models: list[str], answer: str) -> None:
        super().__init__()
        self.models, self.kind = models, answer

    def answer(self, exchange: Exchange) -> None:
        if exchange.headers.get("Authorization") != f"Bearer {KEY}":
            return exchange.send_json(401, {"error": {"code": "unauthorized", "message": f"bad {KEY}"}})
        if exchange.path == "/v1/models":
            return exchange.send_json(200, {"object": "list", "data": [{"id": model} for model in self.models]})
        self.jobs.append({"path": exchange.path})
        if self.misbehaves("stored", exchange):
            return
        made = cut_out(picture(), mask=self.kind == "mask")
        item = {"url": self.publish(made)} if self.kind == "url" else {"b64_json": base64.b64encode(made).decode()}
        exchange.send_json(200, {"data": [item]})


def ask_gigarouter(service: Service, folder, **more):
    return remove_background(picture(), "gigarouter-rmbg-1.4", settings=settings(service, folder, **more))


def test_gigarouter_is_asked_first_whether_it_has_the_model(tmp_path):
    with Gigarouter(["other/model"], "rgba") as service:
        with pytest.raises(NotReadyError, match=r"announced .* does not offer it yet\. Nothing was charged\."):
            ask_gigarouter(service, tmp_path)
        with pytest.raises(ServiceError, match="does not accept the key") as caught:
            ask_gigarouter(service, tmp_path, GIGAROUTER_API_KEY="another-key")
        assert "another-key" not in str(caught.value) and not service.jobs
    assert "announced" in PROVIDERS["gigarouter-rmbg-1.4"].status(Settings.from_environ({})).text


@pytest.mark.parametrize("kind", ["rgba", "mask"])
def test_gigarouter_one_day(kind, tmp_path):
    with Gigarouter(["briaai/RMBG-1.4"], kind) as service:
        cutout = ask_gigarouter(service, tmp_path)
        assert cutout.cost == Cost(None, "unknown") and len(service.jobs) == 1
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


@pytest.mark.parametrize("name", ["dropped connection", "page of a gateway", "JSON of another shape", "broken off"])
def test_faults_of_gigarouter(name, tmp_path):
    with Gigarouter(["briaai/RMBG-1.4"], "rgba") as service:
        service.faults["stored"] = WAYS["remove.bg"][3][name]
        with pytest.raises(RmbgError) as caught:
            ask_gigarouter(service, tmp_path)
        assert MONEY.search(str(caught.value)) and len(service.jobs) == 1 and caught.value.cost
