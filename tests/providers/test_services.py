"""Requests to each service: every option, uploads, other result types."""

from __future__ import annotations

import base64
import io
import json
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rmbg import remove_background
from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICED_VARIANTS, PRICES, quote
from rmbg.cutout import Cutout
from rmbg.errors import NotReadyError, OptionError, RmbgError, ServiceError
from rmbg.images.photo import Photo, open_photo
from rmbg.providers import PROVIDERS, services
from rmbg.providers.base import PaidJob, RequestContext
from rmbg.providers.remote import LOSSLESS_PIXELS, EncodedPhoto, encode_photo
from rmbg.providers.runware import task
from rmbg.providers.services import Replicate
from rmbg.settings import Settings
from tests.disc import results, save_photos
from tests.providers.test_remote import CHARGE_SENTENCE, expected_matte
from tests.remote import PROTOCOLS, cut, environment, picture, settings, short_delays  # noqa: F401
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


FAL_ENDPOINTS = {
    "fal-birefnet": (
        "fal-ai/birefnet/v2",
        {"model": "Matting", "operating_resolution": "2048x2048", "refine_foreground": False},
        {"output_format": "png", "sync_mode": True},
    ),
    "fal-ben2": ("fal-ai/ben/v2/image", {}, {}),
    "fal-pixelcut": ("pixelcut/background-removal", {}, {"output_format": "rgba", "sync_mode": True}),
    "fal-ideogram": ("fal-ai/ideogram/remove-background", {}, {"sync_mode": True}),
    "fal-sam-3": (
        "fal-ai/sam-3/image",
        {"prompt": "red car"},
        {"apply_mask": False, "output_format": "png", "sync_mode": True},
    ),
}


@pytest.mark.parametrize("provider", FAL_ENDPOINTS)
def test_arguments_of_each_fal_endpoint(provider, tmp_path):
    endpoint, options, constants = FAL_ENDPOINTS[provider]
    with Fal() as fal:
        fal.unit_price = 0.011
        cutout = remove_background(picture(), provider, options, settings=settings(fal, tmp_path))
        (job,) = fal.jobs
        assert job["endpoint"] == endpoint and job["arguments"].pop("image_url").startswith("data:image/png")
        assert job["arguments"] == options | constants
        assert cutout.cost == Cost(Decimal("0.011"), "charged")
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01
        fal.units = None
        listed = PRICES[provider].usd
        cost = remove_background(picture(), provider, options, settings=settings(fal, tmp_path)).cost
        assert cost == (Cost(None, "unknown") if listed is None else Cost(listed, "listed"))


@pytest.mark.parametrize("detail", ["User is Locked.", "Exhausted balance. Top up your balance."])
def test_locked_fal_account_has_no_credits(detail, tmp_path):
    with Fal() as fal:
        fal.faults["submit"] = lambda service, exchange: exchange.send_json(403, {"detail": detail})
        with pytest.raises(ServiceError, match=r"has no credits left\. .*Nothing was charged"):
            cut(fal, tmp_path, "fal queue")


def test_sam_3_needs_a_prompt(tmp_path):
    with Fal() as fal:
        with pytest.raises(OptionError, match=r"needs the option prompt: what to keep"):
            remove_background(picture(), "fal-sam-3", settings=settings(fal, tmp_path))
        assert not fal.seen


@pytest.mark.parametrize(("provider", "side"), [("fal-ben2", 1024), ("withoutbg", 1024), ("recraft", 4000)])
def test_photo_is_reduced_to_the_limit_of_the_service(provider, side):
    photo = Photo(np.zeros((20, side + 100, 3), np.uint8))
    sent = PROVIDERS[provider].prepare(photo, PROVIDERS[provider].info.parse_options({}))
    assert Image.open(io.BytesIO(sent.data)).width == side


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


def test_model_of_each_birefnet_variant_at_runware(tmp_path):
    info = PROVIDERS["runware-birefnet"].info
    (variant,) = [option for option in info.options if option.name == "variant"]
    with Runware() as service:
        for name in variant.choices:
            remove_background(picture(), info.id, {"variant": name}, settings=settings(service, tmp_path))
            known = quote(info, {"variant": name}, Settings()).cost.usd
            assert known == (Decimal("0.0006") if name in PRICED_VARIANTS else None)
        tasks = [job["task"] for job in service.jobs]
    assert sorted(task["model"] for task in tasks) == sorted(f"runware:112@{n}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 10))
    assert all("settings" not in task and "providerSettings" not in task for task in tasks)


@pytest.mark.parametrize(("variant", "usd"), [("matting", Decimal("0.0006")), ("cod", None)])
def test_cost_that_runware_does_not_report_is_the_quoted_one(variant, usd, tmp_path):
    with Runware() as service:
        made = service._outcome
        service._outcome = lambda job: ([{k: v for k, v in item.items() if k != "cost"} for item in made(job)[0]], [])
        options = {"variant": variant, "includeCost": False}
        cutout = remove_background(picture(), "runware-birefnet", options, settings=settings(service, tmp_path))
    assert cutout.cost == Cost(usd, "unknown" if usd is None else "listed")


def test_ideogram_at_runware(tmp_path):
    with Runware() as service:
        cutout = remove_background(picture(), "runware-ideogram", settings=settings(service, tmp_path))
        assert service.jobs[0]["task"]["model"] == "ideogram:remove-background@0" and "settings" not in service.jobs[0]["task"]
    assert cutout.cost == Cost(Decimal("0.01"), "charged")


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


@pytest.mark.parametrize(("today", "text"), [(date(2026, 11, 30), "ends 2026-12-01"), (date(2026, 12, 1), "ended 2026-12-01")])
def test_remove_bg_status_names_its_end_of_service(today, text, monkeypatch):
    monkeypatch.setattr(services, "date", SimpleNamespace(today=lambda: today))
    status = PROVIDERS["removebg"].status(Settings.from_environ({}))
    assert status.state == "key" and text in status.text
    compatible = PROVIDERS["removebg"].status(
        Settings.from_environ({"RMBG_REMOVEBG_URL": "https://x.example", "REMOVEBG_API_KEY": "k"})
    )
    assert compatible.text == "ready"


# Services with an ordinary wire format


BODIES = {
    "Pixian": ({}, {"size": "full", "channels": "rgba", "test": "false", "format": "png"}),
    "Photoroom": ({"size": "hd"}, {"size": "hd", "channels": "rgba", "despill": "false", "format": "png"}),
    "Recraft": ({}, {"response_format": "b64_json"}),
    "withoutBG": ({}, {}),
    "BRIA": (
        {"preserve_alpha": True},
        {
            "preserve_alpha": True,
            "sync": True,
            "visual_input_content_moderation": False,
            "visual_output_content_moderation": False,
        },
    ),
    "Replicate": ({}, {"version": Replicate.version}),
}


@pytest.mark.parametrize("protocol", BODIES)
def test_fields_of_each_request(protocol, tmp_path):
    options, expected = BODIES[protocol]
    with PROTOCOLS[protocol].server() as service:
        cut(service, tmp_path, protocol, **options)
        assert service.jobs[0]["fields"] == expected


@pytest.mark.parametrize("protocol", ["Photoroom", "Pixian"])
def test_mask_of_a_service(protocol, tmp_path):
    with PROTOCOLS[protocol].server() as service:
        cutout = cut(service, tmp_path, protocol, channels="alpha")
        assert service.jobs[0]["fields"]["channels"] == "alpha"
        assert np.abs(cutout.matte - expected_matte(picture())).max() < 0.01


def test_own_alpha_is_sent_to_bria_and_applied_once(tmp_path):
    with PROTOCOLS["BRIA"].server() as service:
        cutout = cut(service, tmp_path, "BRIA", data=translucent(), preserve_alpha=True)
        assert Image.open(io.BytesIO(service.jobs[0]["data"])).mode == "RGBA"
    matte = expected_matte(picture())
    matte[:, :48] *= 100 / 255
    assert np.abs(cutout.matte - matte).max() < 0.02


def test_prices_that_depend_on_options():
    def usd(provider: str, **options: object) -> Decimal | None:
        return quote(PROVIDERS[provider].info, options, Settings()).cost.usd

    assert (usd("photoroom"), usd("photoroom", size="preview")) == (Decimal("0.02"), Decimal("0.005"))
    assert (usd("pixian"), usd("pixian", test=True)) == (None, 0)


@pytest.mark.parametrize("protocol", ["BRIA job", "Replicate"])
def test_job_of_an_earlier_process_is_resumed(protocol, tmp_path):
    """The job is not submitted again, and a handle with a foreign URL is not used."""
    provider, options = PROVIDERS[PROTOCOLS[protocol].provider], PROTOCOLS[protocol].options
    handles: list[str] = []

    def run(handle: str) -> Cutout:
        job = PaidJob("00000000-0000-4000-8000-000000000000", handle, handles.append)
        context = RequestContext(settings(service, tmp_path), job=job)
        return provider.cut(open_photo(picture()), provider.info.parse_options(options), context)

    with PROTOCOLS[protocol].server() as service:
        run("")
        assert len(handles) == len(service.jobs) == 1
        cutout = run(handles[0])
        assert len(service.jobs) == 1 and np.abs(cutout.matte - expected_matte(picture())).max() < 0.01
        run(handles[0].replace("127.0.0.1", "127.0.0.2"))
        assert len(service.jobs) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_service_in_command_batch_and_comparison(protocol, tmp_path, monkeypatch, rmbg):
    photos = save_photos(tmp_path / "photos", 2)
    provider, options = PROTOCOLS[protocol].provider, PROTOCOLS[protocol].options
    given = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    with PROTOCOLS[protocol].server() as service:
        for variable, value in environment(service, tmp_path / "data", RMBG_REMOTE_SECONDS="60").items():
            monkeypatch.setenv(variable, value)
        photo = next(path for path in photos.rglob("*") if path.is_file())
        status, _, error = rmbg("remove", photo, tmp_path / "out.png", "--provider", provider, *given)
        assert status == 0, error
        assert Image.open(tmp_path / "out.png").mode == "RGBA" and len(service.jobs) == 1
        assert rmbg("batch", photos, tmp_path / "out", "--provider", provider, *given, "--yes")[0] == 0
        assert len(results(tmp_path / "out")) == 2 and len(service.jobs) == 3
        status, out, error = rmbg(
            "compare", photo, "--providers", f"builtin,{provider}", "--out", tmp_path / "compared", "--yes"
        )
        assert status == 0 and len(service.jobs) == 4 and provider in out, error


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
