"""Plug-ins: the example of the tutorial, installed with pip, and packages whose plug-in cannot be loaded."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import rmbg.plugins
import rmbg.providers
from rmbg.batch.plan import Recipe
from rmbg.batch.processes import PhotoProcess
from rmbg.errors import OptionError
from rmbg.images.encode import FORMATS
from rmbg.providers import PROVIDERS, entry_points, find, list_providers, load_plugins
from rmbg.settings import Settings
from rmbg.ui.components import providers as components
from tests.benchmark.fakes import make_dataset
from tests.command import PATIENCE, ROOT, command
from tests.sentences import sentence
from tests.servers.service import cut_out
from tests.servers.web import Web, until

TUTORIAL = (ROOT / "docs/tutorial-plugin.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "tests/plugin_example"
ID = "chroma-key"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder with the package of the tutorial, installed with pip as a user does, without the package index."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")  # the build writes to it
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(folder / "source")]
    subprocess.run(install, check=True, timeout=PATIENCE)
    return folder / "site"


@pytest.fixture
def run(site, tmp_path):
    """Run a command in a new process with the plug-in installed; returns status, standard output and standard error."""

    def run_command(*arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if name != "RMBG_PLUGINS"}
        environment |= {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "RMBG_DATA": str(tmp_path / "data"), **variables}
        done = subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment,
            timeout=PATIENCE,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        return done.returncode, done.stdout, done.stderr

    return run_command


@pytest.fixture
def plugins(monkeypatch):
    """Load the plug-ins of folders in this process, until the end of the test; returns the failures."""

    def load(*folders, names=None):
        for folder in folders:
            monkeypatch.syspath_prepend(str(folder))
        if names is None:
            monkeypatch.delenv("RMBG_PLUGINS")
        else:
            monkeypatch.setenv("RMBG_PLUGINS", names)
        monkeypatch.setattr(rmbg.providers, "_plugin_failures", None)
        return load_plugins()

    before = dict(PROVIDERS)
    yield load
    PROVIDERS.clear()
    PROVIDERS.update(before)


@pytest.fixture
def green(tmp_path):
    """A photo of a red square with a hard edge in front of a green screen, and its matte."""
    pixels = np.full((60, 80, 3), (0, 200, 0), np.uint8)
    pixels[20:40, 30:60] = (200, 30, 30)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_tutorial_has_the_files_of_the_example():
    (project,), (module,) = (re.findall(rf"^```{kind}\n(.*?)^```", TUTORIAL, re.DOTALL | re.M) for kind in ("toml", "python"))
    assert project == (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    assert module == (EXAMPLE / "rmbg_chroma_key.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\brmbg[.][a-z.]+", module)) == {"rmbg.plugins"}


def test_tutorial_names_the_interface():
    table = TUTORIAL.partition("## The interface")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*`) \|", table, re.M)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(rmbg.plugins.__all__)
    assert f"now {rmbg.plugins.VERSION}," in table


@pytest.mark.slow
def test_commands_of_the_tutorial(run, green, tmp_path):
    Image.open(green).save(tmp_path / "photo.jpg", quality=95)
    lines = re.findall("^    rmbg (.*)$", TUTORIAL, re.M)
    assert [line.split()[0] for line in lines] == ["providers", "remove", "compare"]
    for line in lines:
        status, _, error = run(*line.split())
        assert status == 0, error
    alpha = np.asarray(Image.open(tmp_path / "cutout.png"))[..., 3]
    assert (alpha[23:37, 33:57] == 255).all() and (alpha[:12] == 0).all()


@pytest.mark.slow
def test_commands_run_the_plugin(run, green, tmp_path):
    status, out, error = run("providers")
    assert (status, error) == (0, "") and [line.split()[0] for line in out.splitlines()[1:]] == [*PROVIDERS, ID]
    assert json.loads(run("providers", "--json")[1])[-1]["options"][0]["maximum"] == 255

    arguments = ("remove", green, tmp_path / "cutout.png", "--provider", ID, "--option", "tolerance=30", "--json")
    status, out, error = run(*arguments)
    assert (status, json.loads(out)["provider"]) == (0, ID), error
    alpha = np.asarray(Image.open(tmp_path / "cutout.png"))[..., 3]
    assert (alpha[20:40, 30:60] == 255).all() and (alpha > 0).sum() == 600

    status, out, error = run("remove", green, tmp_path / "cutout.png", "--provider", ID, "--option", "tolerance=0")
    assert (status, out) == (2, "") and "tolerance is '0'; it must be a whole number from 1 to 255" in error
    status, _, error = run("compare", green, "--providers", f"{ID},cascade:{ID}+builtin", "--out", tmp_path / "compared")
    assert status == 0, error
    status, out, error = run(
        "benchmark", make_dataset(tmp_path / "set"), "--providers", ID, "--out", tmp_path / "out", "--json"
    )
    assert status == 0 and ID in out, error
    status, out, error = run("batch", tmp_path / "set/shop/im", tmp_path / "many", "--provider", ID)
    assert status == 0 and len(list((tmp_path / "many").glob("*.png"))) == 3, error

    for names in ("", "other"):
        status, out, error = run("remove", green, tmp_path / "no.png", "--provider", ID, RMBG_PLUGINS=names)
        assert status == 2 and "There is no provider 'chroma-key'; choose from " in error
    assert "RMBG_PLUGINS contains 'other', which no installed package provides." in error


def test_plugin_is_imported_only_for_ids_of_other_packages(site, green, tmp_path):
    code = (
        "import sys\nfrom rmbg.__main__ import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(100 + ('rmbg_chroma_key' in sys.modules))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RMBG_PLUGINS"} | {"PYTHONPATH": str(site)}
    for arguments, expected in [
        (["--help"], 100),
        (["remove", green, tmp_path / "a.png", "--provider", "builtin"], 100),
        (["remove", green, tmp_path / "a.png", "--provider", ID], 101),
    ]:
        words = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(words, cwd=ROOT, env=environment, timeout=PATIENCE, capture_output=True)
        assert done.returncode == expected, (arguments, done.stderr)


def test_page_and_python_list_the_plugin(site, plugins):
    assert plugins(site) == ()
    assert list_providers()[-1].id == ID and find(ID).info.title == "Chroma key"
    assert find(f"cascade:{ID},builtin").steps == (ID, "builtin")
    settings = Settings.from_environ()
    assert ("Chroma key · one-color backgrounds", ID) in components.choices(settings)
    assert "Chroma key" in components.cards(settings) and components.summary(find(ID).info, "", settings)
    from rmbg.ui.app import build

    config = build().config
    lists = [component["props"].get("choices") or [] for component in config["components"]]
    assert sum(ID in [choice[-1] for choice in choices] for choices in lists) == 4, "Remove, Batch, Compare and Benchmark"


def test_processes_of_a_batch_have_the_plugin(site, plugins, green):
    plugins(site)
    process = PhotoProcess(Recipe(find(ID), {"tolerance": 40}, FORMATS["png"]), Settings.from_environ())
    try:
        assert until(lambda: process.ready, PATIENCE)
        assert process.result("photo", green.read_bytes()).width == 80
    finally:
        process.close()


def test_selected_names(site, plugins):
    (failure,) = plugins(site, names="missing")
    assert "'missing', which no installed package provides" in sentence(failure) and ID not in PROVIDERS
    assert plugins(site, names="") == () and ID not in PROVIDERS
    assert plugins(site, names=f" {ID},") == () and ID in PROVIDERS


def package(folder: Path, name: str, source: str) -> Path:
    """Write an installed package with a module and a plug-in of this name, which is the module's ``PROVIDER``."""
    module = f"plugin_{abs(hash((str(folder), name)))}"
    (folder / f"{module}.py").write_text(source)
    metadata = folder / f"rmbg_{module}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rmbg-{name}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(f"[rmbg.providers]\n{name} = {module}:PROVIDER\n")
    return folder


#: A plug-in without a fault; the tests replace parts of it.
SOUND = """
from rmbg.plugins import Provider, ProviderInfo

class Plain(Provider):
    info = ProviderInfo(id="plain", title="Plain", kind="local", model="", license="", license_url="", pixels="")

    def cut(self, photo, options, context):
        raise NotImplementedError

PROVIDER = Plain()
"""

FAULTS = {
    "raises": ("PROVIDER =", "raise OSError('no library')\nPROVIDER =", r"it raises OSError \(no library\)"),
    "imports": ("PROVIDER =", "import no_such_module\nPROVIDER =", "No module named 'no_such_module'"),
    "exits": ("PROVIDER =", "import sys; sys.exit()\nPROVIDER =", "it ends the process when it is imported"),
    "prints": ("PROVIDER =", "print('Hello!')\nPROVIDER =", "it prints 'Hello!' when it is imported"),
    "has no object": ("PROVIDER =", "OTHER =", "it raises AttributeError"),
    "is a class": ("= Plain()", "= Plain", "its ABCMeta is not an instance of a subclass of rmbg.plugins.Provider"),
    "is none": ("= Plain()", "= None", "its NoneType is not an instance"),
    "has another id": ('id="plain"', 'id="other"', "its provider has the id 'other', which differs from the entry point"),
    "has a wrong kind": ('kind="local"', 'kind="fast"', "its kind is 'fast'; it must be 'local' or 'remote'"),
    "is no service": ('kind="local"', 'kind="remote"', "must have a price and be a subclass of rmbg.plugins.Remote"),
    "has no info": ("info = ProviderInfo", "info, other = None, ProviderInfo", "its info is not a ProviderInfo"),
    "has a wrong status": ("def cut", "status = lambda self, settings: 'ready'\n    def cut", "its status is not a Status"),
    "has a status that exits": ("def cut", "status = lambda self, settings: exit()\n    def cut", "it ends the process"),
    "has no JSON": ('model=""', "model=b''", "it raises TypeError"),
    "is not picklable": ("PROVIDER =", "Plain.__reduce__ = None\nPROVIDER =", "it raises TypeError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_plugin_is_one_sentence(tmp_path, plugins, capsys, fault):
    old, new, expected = FAULTS[fault]
    assert old in SOUND
    (failure,) = plugins(package(tmp_path, "plain", SOUND.replace(old, new)))
    assert sentence(failure).startswith("The plug-in 'plain' of rmbg-plain 1.2 is not loaded: ")
    assert re.search(expected, failure), failure
    assert "plain" not in PROVIDERS and capsys.readouterr().out == ""


def test_sound_plugin_beside_a_faulty_one(tmp_path, plugins, rmbg, monkeypatch):
    (tmp_path / "a").mkdir()
    package(tmp_path / "a", "builtin", SOUND)
    package(tmp_path, "plain", SOUND)
    builtin = PROVIDERS["builtin"]
    (failure,) = plugins(tmp_path / "a", tmp_path)
    assert "'builtin' of rmbg-builtin 1.2 is not loaded: a provider with this id exists already." in sentence(failure)
    assert PROVIDERS["builtin"] is builtin and "plain" in PROVIDERS
    status, out, error = rmbg("providers")
    assert (status, error) == (0, "") and out.splitlines()[-1] == failure
    status, out, error = rmbg("providers", "--json")
    assert (status, error) == (0, f"rmbg: {failure}\n") and json.loads(out)[-1]["id"] == "plain"
    with pytest.raises(OptionError) as raised:
        find("missing")
    assert str(raised.value).endswith(failure) and failure not in raised.value.args[0].public


@pytest.mark.parametrize("name", ["auto", "cascade", "Upper", "a:b", "a+b", "x" * 41])
def test_names_that_are_no_ids(tmp_path, monkeypatch, name):
    point = SimpleNamespace(name=name, dist=None, load=lambda: pytest.fail("it is not imported"))
    monkeypatch.setattr(entry_points, "entry_points", lambda group: [point])
    loaded, (failure,) = entry_points.load(Settings(), PROVIDERS)
    assert loaded == {} and sentence(failure).startswith(f"The plug-in {name!r} is not loaded: ")


#: A service that returns a mask as the body of its response.
SERVICE = """
from decimal import Decimal
from rmbg.plugins import Cost, Price, ProviderInfo, ProviderResult, Remote, Request, ServiceError, http_failure

class Masks(Remote):
    service = "Masks"
    info = ProviderInfo(
        id="masks", title="Masks", kind="remote", model="1", license="", license_url="", pixels="The photo is sent to Masks.",
        key_name="MASKS_KEY", price=Price(Decimal("0.01"), "listed", "2026-11", "https://masks.example", Decimal("0.01")),
    )

    def request_result(self, call, encoded_photo):
        url = call.url("MASKS_URL", "https://masks.example")
        headers = {"Authorization": call.key}
        request = Request("POST", url, headers, files={"image": encoded_photo.file}, pays=True)
        response = call.checked(call.send(request), failure)
        call.cost = Cost(Decimal("0.01"), "charged")
        return ProviderResult(response.body, mask=True)

def failure(call, response):
    call.mark_rejected()
    return http_failure(call, response, response.json("error"))

PROVIDER = Masks()
"""


def test_service(tmp_path, plugins, monkeypatch, green, rmbg):
    def answer(exchange):
        if exchange.seen.headers["authorization"] != "secret-of-masks":
            return exchange.send_json(403, {"error": "wrong key"})
        exchange.send(200, cut_out(green.read_bytes(), mask=True), "image/png")

    assert plugins(package(tmp_path, "masks", SERVICE)) == ()
    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
    with Web({"/": answer}) as server:
        monkeypatch.setenv("MASKS_URL", f"{server.url}/")
        assert components.key_names()[-1] == "MASKS_KEY"
        assert find("masks").status(Settings.from_environ()).state == "key"
        for key, expected in (("id-of-another", 1), ("secret-of-masks", 0)):
            monkeypatch.setenv("MASKS_KEY", key)
            status, out, error = rmbg("remove", green, tmp_path / "out.png", "--provider", "masks", "--json")
            assert status == expected and "secret" not in out + error, error
            assert out or error == "rmbg: Masks rejected the API key. Check it at its website. Nothing was charged.\n"
    assert json.loads(out)["cost"] == {"usd": 0.01, "basis": "charged"}
    status, out, _ = rmbg("spent", "--json")
    assert json.loads(out)["providers"][0] | {"provider": "masks", "usd": 0.01} == json.loads(out)["providers"][0]


def test_plugin_that_lists_the_providers_while_it_is_imported(tmp_path, plugins):
    source = SOUND.replace("PROVIDER =", "import rmbg\nassert rmbg.list_providers()\nPROVIDER =")
    assert plugins(package(tmp_path, "plain", source)) == () and find("plain")


def test_pickled_plugin(site, plugins):
    plugins(site)
    assert type(pickle.loads(pickle.dumps(find(ID)))) is type(find(ID))
