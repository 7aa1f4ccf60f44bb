"""The documentation matches the code: generated pages, commands, variables, links, licenses and version."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from docs.generate import FOLDER, PAGES
from rmbg.billing.quote import PRICES
from rmbg.cli.app import COMMANDS, parser
from rmbg.inference.catalog import MODELS, VITMATTE
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from rmbg.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "train/README.md")]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [*OTHERS, *DOCS]}

#: A line of a shell that is not indented, and would be shown as prose.
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:python -m|pip install|docker|make|rmbg|ray|curl) [^|\n]*$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_reference_matches_the_code(page):
    assert (FOLDER / page).read_text(encoding="utf-8") == PAGES[page](), "run: python -m docs.generate"


def test_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 160


def commands() -> list[str]:
    """All indented lines that run the command line, without comments, pipes and redirections."""
    lines = [line for text in TEXTS.values() for line in re.findall(r"^    .*(?:rmbg) .*$", text, re.MULTILINE)]
    found = [
        re.search(r"(?:python -m |^    |\| |=\S+ )rmbg ([a-z]+ .*|[a-z]+)$", re.split(r" +#| > ", line)[0]) for line in lines
    ]
    return sorted({match[1].strip() for match in found if match and match[1].split()[0] in COMMANDS})


def test_documented_commands_are_valid():
    words = commands()
    assert {line.split()[0] for line in words} >= {
        "remove",
        "batch",
        "compare",
        "replace",
        "benchmark",
        "serve",
        "space",
        "spent",
    }
    for line in words:
        arguments = shlex.split(line)
        parser(arguments).parse_args(arguments)  # exits with a message if an argument is unknown


def test_commands_are_in_blocks():
    for name, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        assert COMMAND.findall(prose) == [], name
        after_prose = re.findall(r"^(?![ |>*-]|\d+\.|```|$).*\n {4}(?:[A-Z_]+=\S+ )*python -m .*", prose, re.MULTILINE)
        assert after_prose == [], f"{name}: a block needs an empty line before it"


def test_documented_modules_and_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name, text in TEXTS.items():
        for module in re.findall(r"python -m ((?:benchmarks|train|tests|docs)[\w.]*\w)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{name}: {module}"
        assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)) <= targets, name


def test_an_unknown_option_is_found(capsys):
    with pytest.raises(SystemExit):
        parser(["remove"]).parse_args(["remove", "a.jpg", "b.png", "--no-such-option"])
    capsys.readouterr()


def test_every_variable_is_documented():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rmbg").rglob("*.py"))
    used = set(re.findall(r"\bRMBG_[A-Z_]+[A-Z]\b", sources)) | {p.info.key_name for p in PROVIDERS.values() if p.info.key_name}
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", TEXTS["docs/reference/settings.md"]))
    assert used - documented == set(), "add them to docs/reference/settings.md"
    assert {name for name in documented if name.startswith("RMBG_")} - used == set()


def test_documented_defaults_are_those_of_the_settings():
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", TEXTS["docs/reference/settings.md"], re.MULTILINE)
    documented = {
        name: default
        for names, defaults in rows
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=False)
    }
    settings = Settings()
    expected = {
        "RMBG_DEVICE": settings.device,
        "RMBG_ENGINE": settings.engine,
        "RMBG_PRECISION": settings.precision,
        "RMBG_SESSION_MB": settings.session_bytes // 10**6,
        "RMBG_STORAGE_MB": settings.storage_bytes // 10**6,
        "RMBG_BATCH_FILES": settings.batch_files,
        "RMBG_BATCH_MB": settings.batch_bytes // 10**6,
        "RMBG_KEEP_MINUTES": f"{settings.visit_seconds / 60:g} for visits",
        "RMBG_REMOTE_SECONDS": f"{settings.remote_seconds:g}",
        "RMBG_REMOVEBG_CREDIT_USD": PRICES["removebg"].usd,
        "RMBG_TRUSTED_PROXIES": "".join(settings.trusted_proxies),
        "RMBG_METRICS": settings.metrics,
        "RMBG_LOG_LEVEL": settings.log_level,
        "RMBG_LOG_FORMAT": settings.log_format,
        "RMBG_HOURLY_USD": settings.hourly_usd,
        "RMBG_MAX_PIXELS": f"{settings.max_pixels // 10**6} megapixels",
        "RMBG_MAX_BYTES": f"{settings.max_bytes // 10**6} MB",
        "RMBG_SERVER_KEYS": int(settings.server_keys),
    }
    assert {name: documented[name] for name in expected} == {name: str(value) for name, value in expected.items()}


def test_links_lead_to_files():
    for name, text in TEXTS.items():
        for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Loader that ignores the tags of extensions."""

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    nav = yaml.dump(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"])
    assert {path.relative_to(ROOT / "docs").as_posix() for path in DOCS} == set(re.findall(r"[\w/-]+\.md", nav))


def test_licenses_of_all_models_are_named():
    notices = (ROOT / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8")
    assert [model.hub for model in [*MODELS.values(), VITMATTE] if model.hub not in notices] == []
    assert [p.info.license_url for p in PROVIDERS.values() if p.info.license_url and p.info.license_url not in notices] == []


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](.*)$", changelog, re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert [name for name, date in sections[1:] if not re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", name + date)] == []
    assert len(sections) == 1 or sections[1][0] == __version__


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_and_forms_are_valid_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
