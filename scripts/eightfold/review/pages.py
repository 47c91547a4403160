"""The one place that loads the HTML templates: every value is escaped, and figures are written as the project does."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import jinja2

from eightfold.core.wording import count_text, gain_text, memory_text, number_text, parts, share_text, time_text


def svg_uri(svg: str) -> str:
    """SVG text as a data URI of an <img>: there it runs no script and clashes with nothing, and it follows dark mode."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def sha256_base64(text: str) -> str:
    """What a content security policy calls the one script it lets run."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def gain_share_text(value: float | None) -> str:
    """A difference of two shares in percent, with its sign."""
    return share_text(value) if value is None else f"{value * 100:+.2f}\u00a0%".replace("-", "\u2212")


FILTERS = {
    "share": share_text,
    "number": number_text,
    "gain_share": gain_share_text,
    "gain": gain_text,
    "count": count_text,
    "parts": parts,
    "time": time_text,
    "memory": memory_text,
    "sha256": sha256_base64,
    "json": lambda value: json.dumps(value, ensure_ascii=False),
}


def render(template: str, context: Mapping) -> str:
    """A page as HTML text. template: a path such as "templates/report.html", relative to this folder.

    Whoever renders a template must name it in full, as a text: so the digest of the code includes it (core.provenance).
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= FILTERS
    return made.get_template(template).render(context) + "\n"
