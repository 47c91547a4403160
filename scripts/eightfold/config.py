"""The config: defaults filled in, every mistake named before anything runs. Light: the Snakefile imports it."""

import copy
import difflib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from eightfold.files import UserError

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"
LARGEST = 2**18  # bytes of a config file; YAML is read at a megabyte in seconds
MOST_EPOCHS = 10_000  # of one stage; more is a slip of the keyboard
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
WORDS = {"true": True, "false": False}

Problem = tuple[str, str]  # dotted key, what is wrong with it


@functools.cache
def load_schema() -> dict:
    """The JSON schema of the config. It is shared: do not change it."""
    return yaml.load(SCHEMA.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def resolve(config: Mapping, source: str = "config") -> dict:
    """A new config with every default filled in, at all levels; UserError lists all that is wrong with ``config``.

    Numbers come out as the schema wants them (``10`` and ``"10"`` are 10.0 where fractions are allowed): the command
    line and YAML's reading of 1e-5 both give text, and equal settings must be equal bytes. ``source`` names the file.
    """
    from jsonschema import Draft202012Validator

    problems: list[Problem] = []
    unknown: list[Problem] = []
    result = _fill(load_schema(), config, "", problems, unknown)
    for error in Draft202012Validator(load_schema()).iter_errors(result):
        path = _dotted(error.absolute_path)
        if error.validator == "required":  # the message of the library names the first missing key only
            missing = [name for name in error.validator_value if name not in error.instance]
            properties = error.schema["properties"]
            problems += [(f"{path}.{name}", f"is missing; allowed: {_allowed(properties[name])}") for name in missing]
        else:
            problems.append((path, _refusal(error.instance, error.schema)))
    problems += _contradictions(result, {path for path, _ in problems})
    if unknown or problems:
        first: dict[str, str] = {}  # what was said first of a key is the nearest to the cause
        for path, text in unknown + problems:
            first.setdefault(path, text)
        raise UserError("\n".join(f"{source}: {path or 'the whole'} {text}" for path, text in first.items()))
    return result


def stage_epochs(stage: Mapping) -> int:
    """Epochs of a stage whose defaults are filled in: 3 cycles of length 1, each twice the one before, are 7."""
    cycles, length, mult = stage["cycles"], stage["cycle_len"], stage["cycle_mult"]
    return length * cycles if mult == 1 else length * (mult**cycles - 1) // (mult - 1)


def check_yaml_file(path: str | os.PathLike) -> dict:
    """The mapping in a YAML file. UserError, with the line, for what Snakemake's own reading lets pass in silence:

    a key given twice (the last would win), a key that is not text, and anchors (a few of them can expand without end).
    """
    try:
        if os.path.getsize(path) > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST:,} bytes, so it is no config")
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
        raise UserError(f"{path}: must be a mapping of keys (key: value), not {_given(result)}")
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
                problem = f'the key {_given(key)} is not text; put it in quotes: "{key_node.value}"'
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
    schema = _follow(schema)
    if "properties" in schema:
        value = {} if value is None else value  # a section whose every line is commented out
        if not isinstance(value, Mapping):
            return value
        return _fill_section(schema["properties"], value, path, problems, unknown)
    if isinstance(value, list | tuple):
        items = next((branch["items"] for branch in _branches(schema) if "items" in branch), {})
        return [_fill(items, item, f"{path}[{index}]", problems, unknown) for index, item in enumerate(value)]
    value = _coerce(value, _branches(schema))
    if isinstance(value, float) and not math.isfinite(value):
        problems.append((path, _refusal(value, schema)))
    return value


def _fill_section(known: dict, value: Mapping, path: str, problems: list[Problem], unknown: list[Problem]) -> dict:
    prefix = f"{path}." if path else ""
    unknown += [(f"{prefix}{_plain(key)}", _unknown_key(str(key), list(known))) for key in value if key not in known]
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
    types = {name for branch in branches for name in _types(branch)}
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
    return "string" in _types(branch) and re.search(branch.get("pattern", ""), value) is not None


def _follow(schema: dict) -> dict:
    """The schema that a local ``$ref`` points at."""
    return load_schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def _branches(schema: dict) -> list[dict]:
    return schema.get("anyOf", [schema])


def _types(schema: dict) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


# Messages


def _refusal(value: object, schema: dict) -> str:
    branches = _branches(_follow(schema))
    hint = ""
    if isinstance(value, str):
        words = [word for branch in branches for word in branch.get("enum", [])]
        nearest = difflib.get_close_matches(value.lower(), words, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    elif value is not None and not isinstance(value, list | Mapping) and any("string" in _types(b) for b in branches):
        # YAML reads an unquoted no as false, 2024_01 as a number and 2024-01-01 as a date.
        hint = ' (text that YAML reads as something else needs quotes: "...")'
    return f"is {_given(value)}{hint}; allowed: {_allowed(schema)}"


def _plain(key: object) -> str:
    """A key as it is written, if that can be seen."""
    return key if isinstance(key, str) and key.isprintable() and key.strip() else repr(key)


def _given(value: object) -> str:
    if value is None:
        return "null (nothing given)"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(schema: dict) -> str:
    """What a schema allows, in words."""
    schema = _follow(schema)
    if "title" in schema:
        return schema["title"]
    if "enum" in schema:
        return ", ".join(schema["enum"][:-1]) + " or " * (len(schema["enum"]) > 1) + schema["enum"][-1]
    if "anyOf" in schema:
        return ", or ".join(map(_allowed, schema["anyOf"]))
    kinds = {"boolean": "true or false", "null": "null", "string": "text (not empty)", "object": _allowed_keys}
    kinds |= {"integer": _allowed_number, "number": _allowed_number, "array": _allowed_list}
    words: list[str | Callable] = [kinds[name] for name in _types(schema)]
    return " or ".join(word if isinstance(word, str) else word(schema) for word in words)


def _allowed_number(schema: dict) -> str:
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]}" for key, word in bounds.items() if key in schema]
    return f"{'a whole number' if schema['type'] == 'integer' else 'a number'} {' and '.join(limits)}"


def _allowed_list(schema: dict) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f"{least}" if least == most else f"{least} or more"
    return (
        f"a list of {count}{' different' if schema.get('uniqueItems') else ''} items, each {_allowed(schema['items'])}"
    )


def _allowed_keys(schema: dict) -> str:
    return f"a mapping of the keys {', '.join(schema['properties'])}"


def _dotted(path) -> str:
    """``recipe[2].lr`` for the keys and positions recipe, 2, lr."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


# Keys that contradict one another


def _contradictions(config: object, wrong: set[str]) -> Iterator[Problem]:
    """Problems between keys that are each right: a check that reads a key in ``wrong``, or near it, is left out."""
    checks = {
        _data: ["data"],
        _split: ["split", "data.valid"],
        _finder: ["lr_find.start", "lr_find.end"],
        _tta: ["tta"],
        _recipe: ["recipe"],
        _ensemble: ["recipe", "ensemble", "run", "split"],
    }
    bad = [f"{key.replace('[', '.[')}." for key in wrong if key]
    for check, reads in checks.items():
        if "" not in wrong and not any(
            key.startswith(f"{read}.") or f"{read}.".startswith(key) for key in bad for read in reads
        ):
            yield from check(config)


def is_table(data: Mapping, path: str) -> bool:
    """Whether a path of the config ``data`` is that of a list of pictures, and not of a folder of them."""
    return path.endswith(".csv") or (path.endswith(".json") and not data["bands"])


def _data(config: dict) -> Iterator[Problem]:
    data = config["data"]
    source = data["source"]
    if source == "demo" and data["root"] is not None:
        yield (
            "data.source",
            f"is demo, which takes no data.root ({_given(data['root'])}); allowed with it: folders, csv, filename or coco",
        )
    if source == "kaggle":
        if data["competition"] is None:
            yield "data.competition", "is missing; with data.source kaggle it names what is downloaded"
        if data["root"] is not None:
            yield (
                "data.root",
                f"is {_given(data['root'])}; a competition's files have a place of their own; allowed: null",
            )
        source = data["layout"]
    elif source != "demo" and data["root"] is None:
        yield "data.root", f"is missing; with data.source {source} it is the folder that holds the data"
    several = isinstance(data["label"], list)
    for key in ("label", "group", "fold"):
        given = data[key] if isinstance(data[key], list) else [data[key]]
        if source == "csv" and data["id"] in given:
            yield f"data.{key}", f"is {_given(data[key])}, with data.id in it; allowed: another column"
    if several and source != "csv":
        yield "data.label", f"is a list; allowed with data.source {source}: one name (a column per class is of csv)"
    if data["separator"] is not None and (several or source == "coco"):
        yield "data.separator", "is given; allowed with a column per class, or coco: null"
    if data["multi"] is not None and (source not in ("csv", "coco") or (source == "csv" and not several)):
        yield "data.multi", f"is {_given(data['multi'])}; allowed but with a column per class, or coco: null"
    if data["ordered"] and (data["separator"] is not None or data["multi"]):
        yield "data.ordered", "is true; allowed where a picture has several labels: false"
    if (data["pattern"] is None) != (source != "filename"):
        named = "is missing; it finds" if source == "filename" else "is for data.source filename, where it finds"
        yield "data.pattern", f"{named} the label in a file name: a regular expression with a group (?P<label>...)"
    if data["pattern"] is not None:
        yield from _pattern(data["pattern"])
    for key in ("group", "fold"):
        if data[key] is not None and source not in ("csv", "coco"):
            yield f"data.{key}", f"is a column, and data.source {source} has none; allowed with it: null"
    if data["range"] is not None and data["range"][0] >= data["range"][1]:
        yield "data.range", f"is {_given(data['range'])}; allowed: the value of black, then a larger one of white"
    if is_table(data, data["test"] or "") and data["test_images"] is None:
        yield "data.test_images", f"is missing; with the list {data['test']} it is the folder of the test pictures"


def _pattern(pattern: str) -> Iterator[Problem]:
    known = {"label", "id", "group", "fold"}
    try:
        groups = set(re.compile(pattern).groupindex)
    except re.error as error:
        yield "data.pattern", f"is {_given(pattern)}, no regular expression ({error})"
        return
    if "label" not in groups or not groups <= known:
        odd = f"the group {min(groups - known)!r}" if groups - known else "no group (?P<label>...)"
        yield "data.pattern", f"is {_given(pattern)}, which has {odd}; allowed: label, and if need be id, group, fold"


def _split(config: dict) -> Iterator[Problem]:
    use, folds, valid = config["split"]["use"], config["split"]["folds"], config["data"]["valid"]
    if valid is not None and use not in ([0], "all"):
        yield (
            "split.use",
            f"is {_given(use)}; with data.valid {valid} there is one split; allowed: [0] or all",
        )
    elif use != "all" and config["split"]["method"] != "given" and max(use) >= folds:
        yield "split.use", f"is {_given(use)}; allowed with {folds} folds: numbers from 0 to {folds - 1}"
    if use == "all" and config["split"]["submit"] == "both":
        yield "split.submit", "is 'both'; with split.use all there are no folds to submit; allowed: folds or all"


def _finder(config: dict) -> Iterator[Problem]:
    start, end = config["lr_find"]["start"], config["lr_find"]["end"]
    if start >= end:
        yield "lr_find.end", f"is {_given(end)}; allowed: above lr_find.start, which is {start}"


def _tta(config: dict) -> Iterator[Problem]:
    if config["tta"]["weights"] == "plain_quarter" and config["tta"]["views"] == 0:
        yield (
            "tta.weights",
            "is 'plain_quarter', which gives 0.75 to random views; allowed without any (tta.views 0): equal",
        )


def _recipe(config: dict) -> Iterator[Problem]:
    names: list[str] = []
    for index, stage in enumerate(config["recipe"]):
        here = f"recipe[{index}]"
        if stage["name"].lower() in map(str.lower, names):  # some file systems take Head and head for one folder
            yield f"{here}.name", f"is {_given(stage['name'])}; an earlier stage has it; allowed: a name of its own"
        if isinstance(stage["lr"], str) and stage["lr"] not in ["auto", *names]:
            earlier = f"the name of an earlier stage ({', '.join(names) or 'there is none'})"
            yield f"{here}.lr", f"is {_given(stage['lr'])}; allowed: auto, a number, three numbers, or {earlier}"
        if stage_epochs(stage) > MOST_EPOCHS:
            numbers = ", ".join(f"{key} {stage[key]}" for key in ("cycles", "cycle_len", "cycle_mult"))
            yield f"{here}.cycles", f"makes more than {MOST_EPOCHS} epochs ({numbers}); allowed: up to {MOST_EPOCHS}"
        for key in ("mixup", "cutmix"):
            if stage[key] and stage["train"] == "head":
                yield f"{here}.{key}", f"is {stage[key]}, but a head stage learns on activations; allowed: 0"
        if stage["schedule"] == "one_cycle" and stage["cycles"] > 1:
            yield f"{here}.schedule", "is 'one_cycle'; allowed with cycles 1 (cycle_len gives its epochs)"
        if stage["averaging"] == "swa" and stage["cycles"] == 1:
            yield f"{here}.averaging", "is 'swa', the mean over the cycles' ends; allowed with 2 cycles or more"
        names.append(stage["name"])


def _ensemble(config: dict) -> Iterator[Problem]:
    last = config["recipe"][-1]
    if config["ensemble"]["snapshots"] and not last["snapshots"]:
        yield "ensemble.snapshots", f"is true; allowed where the last stage ({last['name']}) has snapshots: true"
    if config["run"] in config["ensemble"]["runs"]:
        yield "ensemble.runs", f"names {config['run']}, which is this run; allowed: other runs"
    if config["ensemble"]["weights"] == "greedy" and config["split"]["use"] == "all":
        yield "ensemble.weights", "is 'greedy', which is fitted on held-out pictures; allowed with split.use all: equal"
