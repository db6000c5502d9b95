"""Texts by character: the published one from its file, and one that comes with Python."""

from __future__ import annotations

from pathlib import Path
from pydoc_data import topics

import numpy as np
import torch
from torch import Tensor

from .files import find_file

TEXTS = ("shakespeare", "python-help")

_PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))


def read_text(name: str, data_dir: Path | None) -> Tensor:
    """Reads a text as one number for each character, from 0 on in the order of their codes. [N] int64

    Args:
        name: "shakespeare", the plays in the file `input.txt` that nanoGPT is trained on; or "python-help", the help
            pages that come with Python, which differ a little from version to version.
        data_dir: the folder of `input.txt`.

    Raises:
        ValueError: the file is missing, or is not the published one.
    """
    if name == "python-help":
        return _numbered(_help_pages(), _PRINTABLE)
    if data_dir is None:
        raise ValueError(
            f"{name} cannot be found: pass --data-dir with the folder of `input.txt`, the tinyshakespeare file of "
            "char-rnn and nanoGPT, or use --preset small."
        )
    text = find_file(name, data_dir, "input.txt").read_text(encoding="utf-8")
    return _numbered(text, "".join(sorted(set(text))))


def _help_pages() -> str:
    """What `help()` of Python knows, page after page; characters that cannot be typed become question marks."""
    pages = "\n".join(topics.topics[topic] for topic in sorted(topics.topics))
    return "".join(letter if letter in _PRINTABLE else "?" for letter in pages)


def _numbered(text: str, letters: str) -> Tensor:
    """The place of every character of a text among sorted letters. [N] int64"""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    places = np.searchsorted(np.array([ord(letter) for letter in letters]), codes)
    return torch.from_numpy(places.astype(np.int64))
