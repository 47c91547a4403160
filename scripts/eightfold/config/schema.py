"""The schema of the config: what each key may hold, and that in words. Must not import torch: the Snakefile imports it."""

import difflib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

SCHEMA = Path(__file__).parents[3] / "schemas" / "config.schema.yaml"


@functools.cache
def load_schema() -> dict:
    """The JSON schema of the config. It is shared: do not change it."""
    return yaml.load(SCHEMA.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def follow(schema: dict) -> dict:
    """The schema that a local ``$ref`` points at."""
    return load_schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def branches_of(schema: dict) -> list[dict]:
    """The schemas of which a value has to suit one."""
    schema = follow(schema)
    return [leaf for branch in schema["anyOf"] for leaf in branches_of(branch)] if "anyOf" in schema else [schema]


def types_of(schema: dict) -> list[str]:
    """The JSON types that a schema names; none where it names none."""
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def is_table(data: Mapping, path: str) -> bool:
    """Whether a path of the config ``data`` is that of a list of images, and not of a folder of them."""
    return path.endswith(".csv") or (path.endswith(".json") and not data["bands"])


def refusal(value: object, schema: dict) -> str:
    """What is said of a value that a schema does not allow: the value, a guess at what was meant, what is allowed."""
    branches = branches_of(schema)
    hint = ""
    if isinstance(value, str):
        words = [word for branch in branches for word in branch.get("enum", [])]
        nearest = difflib.get_close_matches(value.lower(), words, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    elif value is not None and not isinstance(value, list | Mapping) and any("string" in types_of(b) for b in branches):
        # YAML reads an unquoted no as false, 2024_01 as a number and 2024-01-01 as a date.
        hint = ' (text that YAML reads as something else needs quotes: "...")'
    return f"is {shown(value)}{hint}; allowed: {allowed(schema)}"


def key_text(key: object) -> str:
    """A key as it is written, if that can be seen."""
    return key if isinstance(key, str) and key.isprintable() and key.strip() else repr(key)


def shown(value: object) -> str:
    """A value as YAML spells it, cut to a line."""
    if value is None:
        return "null (nothing given)"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def allowed(schema: dict) -> str:
    """What a schema allows, in words."""
    schema = follow(schema)
    if "title" in schema:
        return schema["title"]
    if "enum" in schema:
        return ", ".join(schema["enum"][:-1]) + " or " * (len(schema["enum"]) > 1) + schema["enum"][-1]
    if "anyOf" in schema:
        return ", or ".join(map(allowed, schema["anyOf"]))
    kinds = {"boolean": "true or false", "null": "null", "string": "text (not empty)", "object": _allowed_keys}
    kinds |= {"integer": _allowed_number, "number": _allowed_number, "array": _allowed_list}
    words: list[str | Callable] = [kinds[name] for name in types_of(schema)]
    return " or ".join(word if isinstance(word, str) else word(schema) for word in words)


def _allowed_number(schema: dict) -> str:
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]}" for key, word in bounds.items() if key in schema]
    return f"{'a whole number' if schema['type'] == 'integer' else 'a number'} {' and '.join(limits)}"


def _allowed_list(schema: dict) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f"{least}" if least == most else f"{least} or more"
    return (
        f"a list of {count}{' different' if schema.get('uniqueItems') else ''} items, each {allowed(schema['items'])}"
    )


def _allowed_keys(schema: dict) -> str:
    return f"a mapping of the keys {', '.join(schema['properties'])}"


def dotted(path) -> str:
    """``recipe[2].lr`` for the keys and positions recipe, 2, lr."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
