"""Requests to each service: every option, uploads, other result types."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from rmbg import remove_background
from rmbg.billing.cost import Cost
from rmbg.errors import NotReadyError, OptionError, RmbgError, ServiceError
from rmbg.providers import PROVIDERS
from rmbg.providers.remote import LOSSLESS_PIXELS, EncodedPhoto, encode_photo
from rmbg.providers.runware import task
from rmbg.settings import Settings
from tests.providers.test_remote import CHARGE_SENTENCE, expected_matte
from tests.remote import PROTOCOLS, cut, picture, settings, short_delays  # noqa: F401
from tests.sentences import sentence
from tests.servers.fal import CDN_TOKEN, Fal
from tests.servers.runware import Runware
from tests.servers.service import KEY, Service, cut_out
from tests.servers.web import Exchange

pytestmark = pytest.mark.usefixtures("short_delays")

ENCODED = EncodedPhoto(b"photo", "image/png")


def translucent() -> bytes:
    """Return a photo whose left half is translucent."""
    pixels = np.asarray(Image.open(io.BytesIO(picture())).convert("RGBA")).copy()
    pixels[:, :48, 3] = 100
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_large_photo_is_sent_as_jpeg_and_transparency_is_flattened():
    from rmbg.images.photo import Photo, open_photo

    large = Photo(np.zeros((LOSSLESS_PIXELS // 1000 + 1, 1000, 3), np.uint8))
    assert encode_photo(large).mime == "image/jpeg"
    photo = open_photo(translucent())
    flat = Image.open(io.BytesIO(encode_photo(photo).data))
    assert flat.mode == "RGB" and np.array_equal(np.asarray(flat), photo.flattened())
    kept = Image.open(io.BytesIO(encode_photo(photo, keep_alpha=True).data))
    assert np.array_equal(np.asarray(kept)[..., 3], photo.alpha)


# fal


def test_fal_storage_headers_follow_the_options(tmp_path):
    with Fal() as fal:
        for options in ({}, {"mode": "direct"}, {"store_io": True, "expiration": 60}):
            remove_background(picture(), "fal-rmbg-2.0", options, settings=settings(fal, tmp_path))
        first, second, third = (job["headers"] for job in fal.jobs)
    for headers in (first, second):
        assert headers["x-fal-store-io"] == "0"
        assert json.loads(headers["x-fal-object-lifecycle-preference"]) == {"expiration_duration_seconds": 3600}
    assert "x-fal-store-io" not in third and "60" in third["x-fal-object-lifecycle-preference"]


def test_fal_upload_uses_a_storage_token_and_expires(tmp_path):
    with Fal() as fal:
        cutout = cut(fal, tmp_path, "fal queue", input="upload", sync_mode=False)
        assert fal.jobs[0]["arguments"] == {"image_url": f"{fal.url}/files/0.png", "sync_mode": False}
        upload = next(seen for seen in fal.seen if seen.path == "/files/upload")
        assert upload.headers["authorization"] == f"Bearer {CDN_TOKEN}" and upload.headers["content-type"] == "image/png"
        assert "3600" in upload.headers["x-fal-object-lifecycle"]
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


@pytest.mark.parametrize("step", ["token", "upload"])
@pytest.mark.parametrize("name", ["401", "500", "unexpected JSON", "HTML instead of JSON"])
def test_fault_of_fal_storage_is_not_charged(tmp_path, step, name):
    with Fal() as fal:
        fal.faults[step] = PROTOCOLS["fal queue"].faults[name]
        with pytest.raises(ServiceError, match=r"Nothing was charged\.$"):
            cut(fal, tmp_path, "fal queue", input="upload")
        assert not fal.jobs


def test_photo_is_not_uploaded_to_a_foreign_host(tmp_path):
    with Fal() as fal, Fal() as other:
        fal.host_of_urls = f"localhost:{other.port}"
        with pytest.raises(ServiceError, match=r"localhost, which is not a host of fal\. .*Nothing was charged"):
            cut(fal, tmp_path, "fal queue", input="upload")
        assert not other.seen and not fal.jobs


# Runware


def test_all_parameters_of_bria_2_1_are_sent():
    info = PROVIDERS["runware-rmbg-2.0"].info
    assert task(info.model, "number", ENCODED, info.parse_options({})) == {
        "taskType": "removeBackground",
        "taskUUID": "number",
        "model": "bria:2@1",
        "inputs": {"image": ENCODED.data_uri},
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
    request = task(info.model, "number", ENCODED, info.parse_options(given))
    assert request["ttl"] == 60 and request["webhookURL"] == "https://example.com/hook"
    assert request["uploadEndpoint"] == "https://example.com/put" and request["outputFormat"] == "PNG"
    assert request["providerSettings"] == {"bria": {"preserveAlpha": True}} and request["includeCost"] is False


def test_all_parameters_of_runware_109_1_are_sent():
    info = PROVIDERS["runware-rembg-1.4"].info
    request = task(info.model, "number", ENCODED, info.parse_options({"outputFormat": "JPG"}))
    assert request["settings"] == {"alphaMatting": False, "postProcessMask": False, "returnOnlyMask": False,
                                  "rgba": [255, 255, 255, 0]}  # fmt: skip
    assert request["outputFormat"] == "PNG", "a cutout requires transparency"
    given = {
        "alphaMatting": "yes", "alphaMattingForegroundThreshold": 255, "alphaMattingBackgroundThreshold": 1,
        "alphaMattingErodeSize": 8, "postProcessMask": True, "returnOnlyMask": True, "rgba": "0, 10, 20, 30",
        "outputFormat": "JPG",
    }  # fmt: skip
    request = task(info.model, "number", ENCODED, info.parse_options(given))
    assert request["settings"] == {
        "alphaMatting": True, "alphaMattingForegroundThreshold": 255, "alphaMattingBackgroundThreshold": 1,
        "alphaMattingErodeSize": 8, "postProcessMask": True, "returnOnlyMask": True, "rgba": [0, 10, 20, 30],
    }  # fmt: skip
    assert request["outputFormat"] == "JPG"


@pytest.mark.parametrize(
    "options",
    [
        {"rgba": "1,2,3"}, {"rgba": "1,2,3,255"}, {"rgba": "1,2,3,256"}, {"rgba": "red"}, {"webhookURL": "http://example.com/"},
        {"uploadEndpoint": "ftp://example.com"}, {"outputQuality": 100}, {"outputQuality": 19}, {"ttl": 59},
        {"alphaMattingErodeSize": 0}, {"outputFormat": "GIF"}, {"seed": 1},
    ],
)  # fmt: skip
def test_invalid_runware_options_are_rejected_before_sending(options, tmp_path):
    with Runware() as service:
        with pytest.raises(OptionError):
            cut(service, tmp_path, "Runware async", **options)
        assert not service.seen


@pytest.mark.parametrize(
    ("protocol", "name"),
    [("Runware async", name) for name in ("outputQuality", "outputType", "includeCost", "rgba")]
    + [("fal queue", "none\n" * 99)],
)
def test_error_for_a_long_value_is_short(protocol, name, tmp_path):
    with PROTOCOLS[protocol].server() as service, pytest.raises(OptionError) as caught:
        cut(service, tmp_path, protocol, **{name: "long \0" * 99})
    sentence(caught.value)


@pytest.mark.parametrize("kind", ["URL", "base64Data", "dataURI"])
@pytest.mark.parametrize("mask", [{}, {"returnOnlyMask": True}, {"returnOnlyMask": True, "outputFormat": "JPG"}])
def test_all_runware_result_types_are_decoded(kind, mask, tmp_path):
    with Runware() as service:
        cutout = cut(service, tmp_path, "Runware async", outputType=kind, **mask)
        assert np.abs(cutout.matte - expected_matte(picture())).max() < (0.08 if mask else 0.01)


def test_translucent_background_color_is_removed_from_alpha(tmp_path):
    """A background of alpha a under a matte m yields m + (1 - m) a; the matte is recovered from it."""
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
    assert np.abs(mask.matte - matte).max() < 0.01  # a mask has no background


@pytest.mark.parametrize("keep", [True, False])
def test_own_alpha_of_the_photo_is_applied_once(keep, tmp_path):
    with Runware() as service:
        cutout = cut(service, tmp_path, "Runware", data=translucent(), preserveAlpha=keep)
    matte = expected_matte(picture())
    matte[:, :48] *= 100 / 255
    assert np.abs(cutout.matte - matte).max() < 0.02


# remove.bg


def test_remove_bg_form_fields_follow_the_options(tmp_path):
    with PROTOCOLS["remove.bg"].server() as service:
        cut(service, tmp_path, "remove.bg")
        cutout = cut(service, tmp_path, "remove.bg", size="auto", type="person", channels="alpha", semitransparency=False)
    assert [job["fields"] for job in service.jobs] == [
        {"size": "full", "type": "auto", "channels": "rgba", "format": "png", "semitransparency": "true"},
        {"size": "auto", "type": "person", "channels": "alpha", "format": "png", "semitransparency": "false"},
    ]
    assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


def test_remove_bg_status_names_its_end_of_service():
    status = PROVIDERS["removebg"].status(Settings.from_environ({}))
    assert status.state == "key" and "2026-12-01" in status.text
    compatible = PROVIDERS["removebg"].status(
        Settings.from_environ({"RMBG_REMOVEBG_URL": "https://x.example", "REMOVEBG_API_KEY": "k"})
    )
    assert compatible.text == "ready"


# gigarouter


class Gigarouter(Service):
    """Loopback gigarouter by its announcement: an OpenAI-compatible API."""

    def __init__(self, models: list[str], result: str) -> None:
        super().__init__()
        self.models, self.result = models, result

    def answer(self, exchange: Exchange) -> None:
        if exchange.headers.get("Authorization") != f"Bearer {KEY}":
            return exchange.send_json(401, {"error": {"code": "unauthorized", "message": f"bad {KEY}"}})
        if exchange.path == "/v1/models":
            return exchange.send_json(200, {"object": "list", "data": [{"id": model} for model in self.models]})
        self.jobs.append({"path": exchange.path})
        if self.inject_fault("stored", exchange):
            return
        made = cut_out(picture(), mask=self.result == "mask")
        item = {"url": self.publish(made)} if self.result == "url" else {"b64_json": base64.b64encode(made).decode()}
        exchange.send_json(200, {"data": [item]})


def run_gigarouter(service: Service, folder, **more):
    return remove_background(picture(), "gigarouter-rmbg-1.4", settings=settings(service, folder, **more))


def test_gigarouter_without_the_model_is_not_sent_a_photo(tmp_path):
    with Gigarouter(["other/model"], "rgba") as service:
        with pytest.raises(NotReadyError, match=r"announced .* does not offer it yet\. .*Nothing was charged\."):
            run_gigarouter(service, tmp_path)
        with pytest.raises(ServiceError, match="rejected the API key") as caught:
            run_gigarouter(service, tmp_path, GIGAROUTER_API_KEY="another-key")
        assert "another-key" not in str(caught.value) and not service.jobs
    assert "announced" in PROVIDERS["gigarouter-rmbg-1.4"].status(Settings.from_environ({})).text


@pytest.mark.parametrize("kind", ["rgba", "mask"])
def test_gigarouter_with_the_model_returns_a_cutout(kind, tmp_path):
    with Gigarouter(["briaai/RMBG-1.4"], kind) as service:
        cutout = run_gigarouter(service, tmp_path)
        assert cutout.cost == Cost(None, "unknown") and len(service.jobs) == 1
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


@pytest.mark.parametrize("name", ["dropped connection", "gateway error page", "unexpected JSON", "truncated body"])
def test_gigarouter_fault_is_one_error_with_charge(name, tmp_path):
    with Gigarouter(["briaai/RMBG-1.4"], "rgba") as service:
        service.faults["stored"] = PROTOCOLS["remove.bg"].faults[name]
        with pytest.raises(RmbgError) as caught:
            run_gigarouter(service, tmp_path)
        assert CHARGE_SENTENCE.search(str(caught.value)) and len(service.jobs) == 1 and caught.value.cost
