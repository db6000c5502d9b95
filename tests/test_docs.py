"""What the documentation promises by name is there; `make docs` runs its pages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import basinvol

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_every_public_name_stands_in_the_reference() -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    named = set(re.findall(r"auto(?:function|class|exception|module):: (?:basinvol\.)?(\w+)$", page, re.MULTILINE))
    missing = set(basinvol.__all__) - {"__version__"} - named
    assert not missing, f"add {sorted(missing)} to docs/reference/api.md"
    assert named <= set(basinvol.__all__)


def test_every_page_is_reached_from_the_first_one() -> None:
    # Sphinx warns of lost pages, too, but only after minutes. Pages at the top are taken by a glob.
    listed = set(
        re.findall(r"^(?:start|tutorials|howto|reference)/[\w-]+$", (DOCS / "index.md").read_text(), re.MULTILINE)
    )
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*/*.md")}
    assert pages == listed


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert version in (ROOT / "CHANGELOG.md").read_text()
