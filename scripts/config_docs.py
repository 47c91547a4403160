"""docs/config.md, the reference of config.yaml, from its schema. Run by hand: python scripts/config_docs.py."""

import json
import sys
from pathlib import Path

from eightfold.config.schema import allowed, follow, load_schema
from eightfold.core.files import write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"
LONG = 300  # letters of a list of allowed words; a longer one is cut


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(schema: dict) -> str:
    if "default" not in schema:
        return "needed"
    text = json.dumps(schema["default"], ensure_ascii=False)
    return f"`{text}`" if len(text) < 60 else "six stages, below"


def _rows(properties: dict) -> list[str]:
    rows = ["| key | default | allowed | what it is |", "| --- | --- | --- | --- |"]
    for key, schema in properties.items():
        described, may_be = follow(schema), allowed(schema)
        if len(may_be) > LONG:
            may_be = may_be[:LONG].rsplit(",", 1)[0] + ", ..."
        words = described.get("description") or schema.get("description", "")
        words = schema.get("description", words)
        rows.append(f"| `{key}` | {_default(schema)} | {_cell(may_be)} | {_cell(words)} |")
    return rows


def reference() -> str:
    """The page as Markdown: a table of the keys at the top, then one of each section."""
    properties = load_schema()["properties"]
    plain = {key: schema for key, schema in properties.items() if "properties" not in schema and key != "recipe"}
    lines = [
        "# Every key of config.yaml",
        "",
        "Written from schemas/config.schema.yaml by `python scripts/config_docs.py`.",
        "",
    ]
    lines += [*_rows(plain), ""]
    for key, schema in properties.items():
        if "properties" in schema:
            lines += [f"## {key}", "", _cell(schema["description"]), "", *_rows(schema["properties"]), ""]
    stages = properties["recipe"]
    lines += [
        "## recipe",
        "",
        _cell(stages["description"]),
        "",
        *_rows(stages["items"]["properties"]),
        "",
        "Default:",
        "",
    ]
    lines += [f"    - {json.dumps(stage)}" for stage in stages["default"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(PAGE, reference())
    print(PAGE, file=sys.stderr)
