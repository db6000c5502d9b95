"""How Sphinx makes the documentation: `make docs`."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

project = "basinvol"
author = "the developers of basinvol"
version = release = version_of("basinvol")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["figures"]

# Pages whose code is run. What has not changed since the last build comes from the cache.
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).resolve().parents[1] / "build" / "docs" / "cache")
nb_execution_timeout = 600  # seconds for one cell, on a machine that does other work, too
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what a page writes is gone with it
nb_merge_streams = True
nb_output_stderr = "remove"  # progress, and announcements that depend on how busy the machine is
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for `!basinvol`
os.environ["NO_COLOR"] = "1"  # of what the command line prints on a page
os.environ["COLUMNS"] = "100"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # they stand in the signature, and what an argument means in the docstring
autodoc_class_signature = "separated"
napoleon_use_ivar = True
napoleon_numpy_docstring = False
default_role = "py:obj"  # of `names` in docstrings

html_theme = "furo"
html_title = f"basinvol {release}"
html_show_sourcelink = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"


def escape_formulas(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escapes what docstrings write as plain text and reStructuredText takes for markup: |w| and 2 * P."""
    for index, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            parts[::2] = [re.sub(r"[|*]", r"\\\g<0>", part) for part in parts[::2]]
            lines[index] = "`".join(parts)


def setup(app: Any) -> None:
    """Connects what is above to Sphinx."""
    app.connect("autodoc-process-docstring", escape_formulas, priority=100)  # before napoleon
