"""What a page takes from a run's files: plots, contact sheets, rows of tables."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from eightfold.inputs.dataset import read_text_table
from eightfold.review.pages import svg_uri


def figures(paths: Sequence[str], texts: Mapping[str, tuple[str, str]]) -> list[dict]:
    """The files among ``paths`` whose stem is in ``texts``, in the order of ``texts``, ready to be shown."""
    by_stem = {Path(path).stem: path for path in paths}
    return [
        {"name": name, "title": title, "text": text, "src": svg_uri(Path(by_stem[name]).read_text("utf-8"))}
        for name, (title, text) in texts.items()
        if name in by_stem
    ]


def cells(path: str | Path) -> dict:
    """A contact sheet (sheets.py) taken apart: {"cells": [{"lines", "src", "colour", "crisp"}], "empty"}.

    As HTML its captions are whole, whatever their length, and its images find as many columns as the screen has room for.
    """
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(path).getroot()
    found = []
    for cell in root.iter(f"{svg}g"):
        image = cell.find(f"{svg}image")
        found.append(
            {
                "lines": (cell.findtext(f"{svg}title") or "").split("\n"),
                "src": "" if image is None else image.get("href"),
                "colour": cell.find(f"{svg}rect").get("stroke"),
                "crisp": image is not None and image.get("style") is not None,
            }
        )
    said = "" if found else " ".join(text.text or "" for text in root.findall(f"{svg}text[@class='m']"))
    return {"cells": found, "empty": said}


def sheets(paths: Sequence[str], texts: Mapping[str, tuple[str, str]]) -> list[dict]:
    """The contact sheets among ``paths``, as ``figures`` gives plots, taken apart by ``cells``."""
    by_stem = {Path(path).stem: path for path in paths}
    return [
        {"name": name, "title": title, "text": text, **cells(by_stem[name])}
        for name, (title, text) in texts.items()
        if name in by_stem
    ]


def table_rows(path: str | Path) -> list[dict]:
    """The rows of a CSV, every cell as text."""
    return read_text_table(path).to_dict("records")


def number_of(text: object) -> float | None:
    """The finite number that a cell holds; None where it holds none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
