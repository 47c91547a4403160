"""The config: defaults filled in, every mistake named before anything runs. Must not import torch: the Snakefile imports it."""

import copy
import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from eightfold.config.contradictions import Problem, contradictions
from eightfold.config.recipe import settled
from eightfold.config.schema import (
    allowed,
    branches_of,
    dotted,
    follow,
    key_text,
    load_schema,
    refusal,
    shown,
    types_of,
)
from eightfold.core.files import UserError

LARGEST = 2**18  # bytes of a config file; YAML is read at a megabyte in seconds
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
WORDS = {"true": True, "false": False}


def resolve(config: Mapping, source: str = "config") -> dict:
    """A new config with every default filled in, at all levels; UserError lists all that is wrong with ``config``.

    Numbers come out as the schema wants them (``10`` and ``"10"`` are 10.0 where fractions are allowed): the command
    line and YAML's reading of 1e-5 both give text, and equal settings must be equal bytes. Values of a stage that follow
    from the stages before it are filled in too (`recipe.settled`). ``source`` names the file.
    """
    from jsonschema import Draft202012Validator

    problems: list[Problem] = []
    unknown: list[Problem] = []
    result = _fill(load_schema(), config, "", problems, unknown)
    for error in Draft202012Validator(load_schema()).iter_errors(result):
        path = dotted(error.absolute_path)
        if error.validator == "required":  # the message of the library names the first missing key only
            missing = [name for name in error.validator_value if name not in error.instance]
            properties = error.schema["properties"]
            problems += [(f"{path}.{name}", f"is missing; allowed: {allowed(properties[name])}") for name in missing]
        else:
            problems.append((path, refusal(error.instance, error.schema)))
    problems += contradictions(result, {path for path, _ in problems})
    if unknown or problems:
        first: dict[str, str] = {}  # what was said first of a key is the nearest to the cause
        for path, text in unknown + problems:
            first.setdefault(path, text)
        raise UserError("\n".join(f"{source}: {path or 'the whole'} {text}" for path, text in first.items()))
    result["recipe"] = settled(result["recipe"])
    return result


def check_yaml_file(path: str | os.PathLike) -> dict:
    """The mapping in a YAML file. UserError, with the line, for what Snakemake's own reading lets pass in silence:

    a key given twice (the last would win), a key that is not text, and anchors (a few of them can expand without end).
    """
    try:
        if os.path.getsize(path) > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST:,} bytes, so it is not a config")
        text = Path(path).read_text(encoding="utf-8-sig")
        for number, line in enumerate(text.splitlines(), start=1):
            if "\t" in line[: len(line) - len(line.lstrip())]:
                raise UserError(f"{path}: line {number}: indented by a tab; YAML wants spaces")
        result = yaml.load(text, Loader=_StrictLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(
            f"{path}: {f'line {mark.line + 1}: ' if mark else ''}{error.problem or error.context}"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-01
        raise UserError(f"{path}: not YAML that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(result, dict | None):
        raise UserError(f"{path}: must be a mapping of keys (key: value), not {shown(result)}")
    return result or {}


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML with text keys, each given once."""

    def compose_node(self, parent, index):
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"anchors and aliases (here {event.anchor!r}) are not taken; write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        lines: dict[object, int] = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                problem = f'the key {shown(key)} is not text; put it in quotes: "{key_node.value}"'
            elif key in lines:
                problem = f"the key {key} is given twice, first in line {lines[key]}"
            else:
                lines[key] = line
                continue
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
        return super().construct_mapping(node, deep)


# Defaults and text


def _fill(schema: dict, value: object, path: str, problems: list[Problem], unknown: list[Problem]) -> object:
    """``value`` with defaults filled in below it and text made into numbers; unknown keys go to ``unknown``."""
    schema = follow(schema)
    if "properties" in schema:
        value = {} if value is None else value  # a section whose every line is commented out
        if not isinstance(value, Mapping):
            return value
        return _fill_section(schema["properties"], value, path, problems, unknown)
    if isinstance(value, list | tuple):
        items = next((branch["items"] for branch in branches_of(schema) if "items" in branch), {})
        return [_fill(items, item, f"{path}[{index}]", problems, unknown) for index, item in enumerate(value)]
    value = _coerce(value, branches_of(schema))
    if isinstance(value, float) and not math.isfinite(value):
        problems.append((path, refusal(value, schema)))
    return value


def _fill_section(known: dict, value: Mapping, path: str, problems: list[Problem], unknown: list[Problem]) -> dict:
    prefix = f"{path}." if path else ""
    unknown += [(f"{prefix}{key_text(key)}", _unknown_key(str(key), list(known))) for key in value if key not in known]
    result = {}
    for key, schema in known.items():
        if key in value or "default" in schema or "properties" in schema:
            given = value[key] if key in value else copy.deepcopy(schema.get("default"))
            result[key] = _fill(schema, given, f"{prefix}{key}", problems, unknown)
    return result


def _unknown_key(key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key.lower(), known, n=1)
    sections = load_schema()["properties"].items()
    elsewhere = [f"{name}.{key}" for name, section in sections if key in section.get("properties", {})]
    hint = (nearest or elsewhere)[:1]
    return f"is not a known key{f'; did you mean {hint[0]}?' if hint else ''} (known here: {', '.join(known)})"


def _coerce(value: object, branches: list[dict]) -> object:
    """``value`` as the number, truth value or null that it spells, where one is wanted and text is not."""
    types = {name for branch in branches for name in types_of(branch)}
    if isinstance(value, str):
        if value == "null" and "null" in types:
            return None
        if any(_takes_text(branch, value) for branch in branches):
            return value
        if "boolean" in types:
            return WORDS.get(value.lower(), value)
        if types & {"integer", "number"} and len(value) < 100 and NUMBER.fullmatch(value):
            value = int(value) if value.lstrip("+-").isdecimal() else float(value)
    if isinstance(value, float) and "integer" in types and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and "number" in types:
        return float(value) if abs(value) < 1e300 else math.inf
    return value


def _takes_text(branch: dict, value: str) -> bool:
    if "enum" in branch:
        return value in branch["enum"]
    return "string" in types_of(branch) and re.search(branch.get("pattern", ""), value) is not None
