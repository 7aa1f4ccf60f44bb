"""Settings: valid values of every variable, and the error for invalid ones."""

from __future__ import annotations

import pickle
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from rmbg.errors import OptionError
from rmbg.settings import Settings
from tests.sentences import sentence


def test_defaults():
    settings = Settings.from_environ({})
    assert (settings.device, settings.engine, settings.precision) == ("auto", "auto", "auto")
    assert settings.weights is None
    assert (settings.max_pixels, settings.max_bytes) == (64_000_000, 40_000_000)
    assert settings.hourly_usd > 0
    assert settings.server_keys is False and settings.daily_budget_usd is None and settings.result_hosts == ()
    assert settings.data.name == "rmbg" and settings.data.is_absolute()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("RMBG_DEVICE", " CUDA:1 ", "device", "cuda:1"),
        ("RMBG_DEVICE", "", "device", "auto"),
        ("RMBG_ENGINE", "OpenVINO", "engine", "openvino"),
        ("RMBG_ENGINE", "torch", "engine", "torch"),
        ("RMBG_PRECISION", "bf16", "precision", "bf16"),
        ("RMBG_PRECISION", "FP32\n", "precision", "fp32"),
        ("RMBG_WEIGHTS", "/models", "weights", Path("/models")),
        ("RMBG_WEIGHTS", "  ", "weights", None),
        ("RMBG_MODELS", " /models ", "models", Path("/models")),
        ("RMBG_MODELS", "", "models", None),
        ("RMBG_PRICES", " /prices.toml ", "prices", Path("/prices.toml")),
        ("RMBG_ENGINE", "onnxruntime", "engine", "onnxruntime"),
        ("RMBG_MAX_PIXELS", "1", "max_pixels", 1),
        ("RMBG_MAX_PIXELS", "100_000_000", "max_pixels", 100_000_000),
        ("RMBG_MAX_PIXELS", " ", "max_pixels", 64_000_000),
        ("RMBG_MAX_BYTES", "5000", "max_bytes", 5000),
        ("RMBG_HOURLY_USD", "$1.50", "hourly_usd", Decimal("1.50")),
        ("RMBG_HOURLY_USD", "0", "hourly_usd", Decimal(0)),
        ("RMBG_BATCH_FILES", "20", "batch_files", 20),
        ("RMBG_BATCH_MB", "30", "batch_bytes", 30_000_000),
        ("RMBG_SERVER_KEYS", "1", "server_keys", True),
        ("RMBG_SERVER_KEYS", "0", "server_keys", False),
        ("RMBG_DAILY_BUDGET_USD", "0", "daily_budget_usd", Decimal(0)),
        ("RMBG_DAILY_BUDGET_USD", "2.5", "daily_budget_usd", Decimal("2.5")),
        ("RMBG_DAILY_BUDGET_USD", "", "daily_budget_usd", None),
        ("RMBG_METRICS", "all", "metrics", "all"),
        ("RMBG_LOG_LEVEL", "INFO", "log_level", "info"),
        ("RMBG_LOG_FORMAT", "json", "log_format", "json"),
        ("RMBG_TRUSTED_PROXIES", "10.0.0.2, 10.1.0.0/16", "trusted_proxies", ("10.0.0.2", "10.1.0.0/16")),
        ("RMBG_TRUSTED_PROXIES", "", "trusted_proxies", ("private",)),
        ("RMBG_RESULT_HOSTS", "A.example, 127.0.0.1 ,,", "result_hosts", ("a.example", "127.0.0.1")),
        ("RMBG_PHOTO_HOSTS", "127.0.0.1:8080", "photo_hosts", ("127.0.0.1:8080",)),
        ("RMBG_REST_PROVIDER", " birefnet ", "rest_provider", "birefnet"),
        ("RMBG_DATA", "/data", "data", Path("/data")),
    ],
)
def test_valid_value_is_parsed(name, value, field, expected):
    settings = Settings.from_environ({name: value})
    assert getattr(settings, field) == expected
    assert settings.environ == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RMBG_ENGINE", "tensorflow"),
        ("RMBG_PRECISION", "int8"),
        ("RMBG_PRECISION", "fp16\nfp32"),
        ("RMBG_ENGINE", "x" * 5000),
        *(
            (name, value)
            for name in ("RMBG_MAX_PIXELS", "RMBG_MAX_BYTES")
            for value in ("0", "-1", "1.5", "1e6", "many", "²", "9" * 5000)
        ),
        *(
            (name, value)
            for name in ("RMBG_HOURLY_USD", "RMBG_DAILY_BUDGET_USD")
            for value in ("free", "-1", "nan", "sNaN", "inf", "1,50", "€5", "0x1")
        ),
        ("RMBG_SERVER_KEYS", "2"),
        ("RMBG_SERVER_KEYS", "yes"),
    ],
)
def test_invalid_value_is_rejected_with_the_name_of_the_variable(name, value):
    with pytest.raises(OptionError) as caught:
        Settings.from_environ({name: value})
    assert sentence(caught.value).startswith(f"{name} is ")


def test_data_folder_follows_xdg_and_rmbg_data(monkeypatch):
    monkeypatch.setattr("os.name", "posix")
    assert Settings.from_environ({"XDG_DATA_HOME": "/x"}).data == Path("/x/rmbg")
    assert Settings.from_environ({"XDG_DATA_HOME": "/x", "RMBG_DATA": " /y "}).data == Path("/y")


def test_data_folder_without_a_home_directory(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert Settings.from_environ({}).data.name == "rmbg"


def test_default_environment_is_that_of_the_process(monkeypatch):
    monkeypatch.setenv("RMBG_MAX_PIXELS", "12345")
    assert Settings.from_environ().max_pixels == 12345


def test_repr_contains_no_keys():
    assert "secret" not in repr(Settings.from_environ({"FAL_KEY": "secret-value"}))


def test_pickled_settings_contain_no_keys():
    settings = Settings.from_environ({"FAL_KEY": "id:secret", "RMBG_DEVICE": "cpu"})
    data = pickle.dumps(settings)
    assert b"secret" not in data and pickle.loads(data) == replace(settings, environ={})


def test_storage_of_a_space_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("rmbg.settings.SPACE_STORAGE", tmp_path)
    assert Settings.from_environ({"SPACE_ID": "ann/studio"}).data == tmp_path / "rmbg"
    assert Settings.from_environ({"SPACE_ID": "ann/studio", "RMBG_DATA": "/other"}).data == Path("/other")
    assert Settings.from_environ({}).data != tmp_path / "rmbg", "other machines may have a folder of this name"
    monkeypatch.setattr("rmbg.settings.SPACE_STORAGE", tmp_path / "missing")
    assert Settings.from_environ({"SPACE_ID": "ann/studio"}).data.name == "rmbg"
