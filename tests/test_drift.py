"""What is written from the code, or about it, says what the code says."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from notifyd.core.option_table import OPTIONS
from notifyd.daemon.config import Config, load

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "packaging" / "notifyd.toml"
PAGES = sorted(ROOT.glob("docs/**/*.md"))


def name(path: Path) -> str:
    """Return how a file is called in a failure."""
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """Load docs/generate.py, a script, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_fresh(generate: ModuleType) -> None:
    """The reference pages and the sample configuration are what the code makes of them."""
    assert generate.stale() == [], "out of date; run: make docs"


def test_the_generator_notices(generate: ModuleType, tmp_path: Path) -> None:
    """A page that differs, or is missing, is named; writing them all mends that."""
    assert generate.stale(tmp_path) == list(generate.FILES)
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    page = tmp_path / "docs/reference/metrics.md"
    page.write_text(page.read_text() + "\n")
    assert generate.stale(tmp_path) == ["docs/reference/metrics.md"]


def test_check_mode(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --check nothing is written, and stale files make it fail by name."""
    monkeypatch.setitem(generate.FILES, "docs/reference/none.md", str)
    assert generate.main(["--check"]) == 1
    assert "docs/reference/none.md is out of date; run: make docs" in capsys.readouterr().err
    assert not (ROOT / "docs/reference/none.md").exists()


def test_sample_changes_nothing() -> None:
    """The sample configuration as it is delivered means the defaults."""
    assert load(str(SAMPLE), {}) == (Config(), [])


def test_sample_has_every_option(tmp_path: Path) -> None:
    """With every option uncommented the sample configuration means the defaults all the same."""
    options = re.sub(r"^#(?=\w)", "", SAMPLE.read_text(), flags=re.MULTILINE)
    path = tmp_path / "notifyd.toml"
    path.write_text(re.sub(r"^\w+_file = .*\n", "", options, flags=re.MULTILINE))
    config, warnings = load(str(path), {})
    assert (config, warnings) == (Config(), [])
    assert config.sources.keys() == OPTIONS.keys()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link from a page of the documentation to a file leads to one that exists."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_index_is_complete() -> None:
    """The index of the documentation links to every page."""
    index = ROOT / "docs" / "README.md"
    links = re.findall(r"\]\(([^)]+\.md)\)", index.read_text())
    assert {(index.parent / link).resolve() for link in links} == set(PAGES) - {index}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_configuration_in_pages(page: Path, tmp_path: Path) -> None:
    """Every piece of configuration that the documentation shows is valid, without a warning."""
    blocks = re.findall(r"^( *)```toml\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE)
    for _, block in blocks:
        path = tmp_path / "notifyd.toml"
        path.write_text(textwrap.dedent(block))
        assert load(str(path), {})[1] == []
