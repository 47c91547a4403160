"""What turns values into a page of HTML by a template: escaped, and written as the project writes figures."""

import base64
import hashlib
import json
from pathlib import Path

import jinja2

from eightfold.core.wording import (
    count_text,
    gain_text,
    memory_text,
    number_text,
    parts,
    share_text,
    time_text,
)


def environment() -> jinja2.Environment:
    """What renders the templates: every value is escaped, and the filters write figures as the project does."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "share": share_text,
        "number": number_text,
        "gain_share": lambda value: (
            share_text(value) if value is None else f"{value * 100:+.2f}\u00a0%".replace("-", "\u2212")
        ),
        "gain": gain_text,
        "count": count_text,
        "parts": parts,
        "time": time_text,
        "memory": memory_text,
        "sha256": sha256_base64,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    return made


def sha256_base64(text: str) -> str:
    """What a content security policy calls the one script it lets run."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
