"""The config: defaults at every level, text made numbers, and each kind of mistake named with its key."""

import copy
import datetime
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.config.schedules import stage_epochs
from eightfold.config.schema import load_schema
from eightfold.core.files import UserError

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
NAN, INF = float("nan"), float("inf")


def stage(**keys) -> dict:
    return {"recipe": [{"name": "head", "size": 64, "train": "head"} | keys]}


LINEAR = {"name": "base", "size": 64, "train": "linear", "augment": False}


def stages(*lrs) -> dict:
    return {"recipe": [{"name": f"s{i}", "size": 64, "train": "head", "lr": lr} for i, lr in enumerate(lrs)]}


def data(**keys) -> dict:
    return {"data": {"source": "csv", "root": "images"} | keys}


# config, key, and words that the message must have besides
BAD = [
    ({"rnu": "x"}, "rnu", "did you mean run?"),
    ({"arch": "resnet18"}, "arch", "did you mean model.arch?"),
    ({"zzzz": 1}, "zzzz", "known here: run, seed, data"),
    ({1: 2}, "1", "not a known key"),
    ({"data": {"rot": "x"}}, "data.rot", "did you mean root?"),
    ({"tta": {"Views": 3}}, "tta.Views", "did you mean views?"),
    (stage(cycle_lem=2), "recipe[0].cycle_lem", "did you mean cycle_len?"),
    ({"run": "cache"}, "run", "not `cache`"),
    ({"run": "Cache"}, "run", "not `cache`"),
    ({"run": "../x"}, "run", "letters"),
    ({"run": "a/b"}, "run", "letters"),
    ({"run": ".hidden"}, "run", "starting with"),
    ({"run": ""}, "run", "letters"),
    ({"run": "a\n"}, "run", "letters"),
    ({"run": "x" * 101}, "run", "at most 100"),
    ({"run": 7}, "run", "quote"),
    ({"run": datetime.date(2024, 1, 1)}, "run", "quote"),
    ({"run": None}, "run", "null"),
    ({"seed": -1}, "seed", "at least 0"),
    ({"seed": True}, "seed", "true; allowed: a whole number"),
    ({"seed": 1.5}, "seed", "whole number"),
    ({"seed": "1.5"}, "seed", "whole number"),
    ({"seed": 2**32}, "seed", "at most 4294967295"),
    ({"seed": []}, "seed", "whole number"),
    ({"batch_size": 1}, "batch_size", "at least 2"),
    ({"batch_size": NAN}, "batch_size", "nan"),
    ({"data": 3}, "data", "a mapping of the keys source, root"),
    ({"data": [1]}, "data", "a mapping"),
    ({"data": {"source": "foldrs"}}, "data.source", "demo, folders, csv, filename, coco or kaggle"),
    ({"data": {"source": "folders"}}, "data.root", "missing"),
    ({"data": {"source": "csv"}}, "data.root", "missing"),
    ({"data": {"root": "images"}}, "data.source", "folders, csv, filename or coco"),
    (data(root=""), "data.root", "folder"),
    (data(train="/abs"), "data.train", "inside data.root"),
    (data(test="a/../../b"), "data.test", "inside data.root"),
    (data(labels=None), "data.labels", "inside data.root"),
    (data(label=False), "data.label", "quote"),
    (data(label="id"), "data.label", "another column"),
    (data(label=["a"]), "data.label", "a list of 2 or more"),
    (data(label=["id", "a"]), "data.label", "another column"),
    (data(group="id"), "data.group", "another column"),
    (data(label=["a", "b"], separator=" "), "data.separator", "null"),
    (data(multi=True), "data.multi", "column per class"),
    (data(separator=" ", ordered=True), "data.ordered", "false"),
    (data(source="folders", group="patient"), "data.group", "null"),
    (data(source="filename"), "data.pattern", "(?P<label>...)"),
    (data(pattern="(?P<label>.)"), "data.pattern", "source filename"),
    (data(source="filename", pattern="(cat|dog)"), "data.pattern", "no group"),
    (data(source="filename", pattern="(?P<label>.)(?P<idd>.)"), "data.pattern", "'idd'"),
    (data(source="filename", pattern="(?P<label>"), "data.pattern", "no regular expression"),
    (data(source="coco", test="test.json"), "data.test_images", "missing"),
    (data(bands=[]), "data.bands", "1 to 4"),
    (data(range=[1, 1]), "data.range", "larger"),
    (data(range=[1]), "data.range", "two numbers"),
    (data(separator=""), "data.separator", "text (not empty) or null"),
    (data(suffix="/x"), "data.suffix", "slash"),
    (data(test="test.csv"), "data.test_images", "missing"),
    (data(bad_images="drop"), "data.bad_images", "fail or skip"),
    ({"split": {"folds": 1}}, "split.folds", "at least 2"),
    ({"split": {"use": [5]}}, "split.use", "0 to 4"),
    ({"split": {"use": [-1]}}, "split.use", "at least 0"),
    ({"split": {"use": []}}, "split.use", "1 or more"),
    ({"split": {"use": [1, 1]}}, "split.use", "different"),
    ({"split": {"use": 0}}, "split.use", "a list"),
    ({"split": {"use": "every"}}, "split.use", "all"),
    (data(valid="valid") | {"split": {"use": [0, 1]}}, "split.use", "valid"),
    ({"split": {"method": "group"}}, "split.method", "did you mean grouped?"),
    ({"split": {"use": "all", "submit": "both"}}, "split.submit", "folds or all"),
    ({"metric": "auc"}, "metric", "roc_auc"),
    ({"metric": "map_at_k"}, "metric", "map_at_5"),
    ({"tuning": {"thresholds": "all"}}, "tuning.thresholds", "per_class"),
    ({"run": "x", "ensemble": {"runs": ["x"]}}, "ensemble.runs", "this run"),
    ({"model": {"arch": "ResNet34"}}, "model.arch", "did you mean resnet34?"),
    ({"model": {"arch": "vit_b"}}, "model.arch", "timm/<name>, or alexnet, convnext_base"),
    ({"model": {"arch": ["resnet18"]}}, "model.arch", "or a list of networks"),
    ({"model": {"arch": ["resnet18", "resnet18"]}}, "model.arch", "each once"),
    ({"model": {"arch": ["resnet18", "resnet34"], "weights": ["none"]}}, "model.weights", "one for each"),
    ({"model": {"arch": "timm/"}}, "model.arch", "timm/<name>"),
    ({"model": {"arch": "timm/../resnet18"}}, "model.arch", "timm/<name>"),
    ({"model": {"weights": "default"}}, "model.weights", "DEFAULT"),
    ({"model": {"weights": None}}, "model.weights", "none"),
    ({"model": {"bn_freeze": 1}}, "model.bn_freeze", "true or false"),
    ({"model": {"bn_freeze": "yes"}}, "model.bn_freeze", "true or false"),
    ({"augmentation": {"max_zoom": 0.9}}, "augmentation.max_zoom", "at least 1"),
    ({"augmentation": {"max_zoom": NAN}}, "augmentation.max_zoom", "nan"),
    ({"augmentation": {"max_zoom": 10**400}}, "augmentation.max_zoom", "inf"),
    ({"augmentation": {"max_rotate": "10 degrees"}}, "augmentation.max_rotate", "at most 180"),
    ({"augmentation": {"max_light": 1}}, "augmentation.max_light", "below 1"),
    ({"augmentation": {"preset": False}}, "augmentation.preset", "side_on, top_down, basic or none"),
    ({"lr_find": {"steps": 19}}, "lr_find.steps", "auto, or a whole number at least 20"),
    ({"lr_find": {"end": INF}}, "lr_find.end", "inf"),
    ({"lr_find": {"start": 1, "end": 1}}, "lr_find.end", "above lr_find.start"),
    ({"recipe": []}, "recipe", "1 or more"),
    ({"recipe": {}}, "recipe", "a list"),
    ({"recipe": ["head"]}, "recipe[0]", "a mapping of the keys name, size, train"),
    ({"recipe": [None]}, "recipe[0].name", "missing"),
    ({"recipe": [{"name": "a", "train": "head"}]}, "recipe[0].size", "missing"),
    (stage(name="a b"), "recipe[0].name", "letters"),
    (stage(name="auto"), "recipe[0].name", "auto"),
    (stage(name="predictions"), "recipe[0].name", "predictions"),
    (stage(size=15), "recipe[0].size", "at least 16"),
    (stage(train="body"), "recipe[0].train", "head, all or linear"),
    (stage(**{"from": "head"}), "recipe[0].from", "earlier stage (there is none)"),
    (stage(**{"from": 3}), "recipe[0].from", "null, or the name of an earlier stage"),
    (stage(train="linear", lr=0.1), "recipe[0].lr", "not trained in steps"),
    (stage(train="linear", optimizer="adamw"), "recipe[0].optimizer", "not trained in steps"),
    (stage(train="linear", snapshots=True), "recipe[0].snapshots", "leave the key out"),
    (stage(train="linear", augment=False, cycles=3), "recipe[0].cycles", "augment: true"),
    ({"recipe": [LINEAR, stage(lr="base")["recipe"][0]]}, "recipe[1].lr", "a linear stage, which has no rate"),
    (stage(cycles=0), "recipe[0].cycles", "at least 1"),
    (stage(cycles=10_000, cycle_mult=10_000), "recipe[0].cycles", "epochs"),
    (stage(cycles=100, cycle_len=101), "recipe[0].cycles", "cycle_len 101"),
    (stage(lr=0), "recipe[0].lr", "above 0"),
    (stage(lr=NAN), "recipe[0].lr", "nan"),
    (stage(lr=[0.1, 0.2]), "recipe[0].lr", "a list of 3"),
    (stage(lr=[0.1, 0.2, INF]), "recipe[0].lr", "inf"),
    (stage(lr="head"), "recipe[0].lr", "earlier stage (there is none)"),
    (stages("s1", 0.1), "recipe[0].lr", "earlier stage"),
    (stages(0.1, "s2"), "recipe[1].lr", "earlier stage (s0)"),
    ({"recipe": stages(1)["recipe"] * 2}, "recipe[1].name", "earlier stage has it"),
    (stage(lr_ratio=0), "recipe[0].lr_ratio", "above 0"),
    (stage(mixup=0.2), "recipe[0].mixup", "head stage"),
    (stage(cutmix=1), "recipe[0].cutmix", "allowed: 0"),
    (stage(schedule="one_cycle", cycles=2), "recipe[0].schedule", "cycles 1"),
    (stage(averaging="swa"), "recipe[0].averaging", "2 cycles or more"),
    (stage(layer_decay=0.5), "recipe[0].layer_decay", "a head has one rate"),
    (
        stage(train="all", layer_decay=0.5, lr_ratio=3),
        "recipe[0].layer_decay",
        "beside lr_ratio 3; allowed: one of the two",
    ),
    (stage(train="all", layer_decay=0.5, lr=[0.1, 0.2, 0.3]), "recipe[0].layer_decay", "one of the two"),
    (stage(train="all", layer_decay=1.5), "recipe[0].layer_decay", "at most 1"),
    (stage(warmup=1), "recipe[0].warmup", "below 1"),
    (stage(warmup=0.1, schedule="one_cycle"), "recipe[0].warmup", "of its own"),
    (stage(grad_clip=0), "recipe[0].grad_clip", "above 0"),
    (stage(weight_decay_on="norms"), "recipe[0].weight_decay_on", "all or weights"),
    (stage(until="done", cycles=2), "recipe[0].until", "over_fitting, or null"),
    (stage(until="over_fitting"), "recipe[0].until", "2 cycles or more"),
    (stage(until="over_fitting", cycles=2, averaging="swa"), "recipe[0].until", "one of the two"),
    (stage(until="over_fitting", cycles=2, snapshots=True), "recipe[0].until", "one of the two"),
    (stage(train="linear", until="over_fitting"), "recipe[0].until", "not trained in steps"),
    (stage(label_smoothing=1), "recipe[0].label_smoothing", "below 1"),
    (stage(first_view=0), "recipe[0].first_view", "at least 1"),
    (stage(train="all", min_steps=50), "recipe[0].min_steps", "0 or null"),
    (stage(min_steps=-1), "recipe[0].min_steps", "at least 0"),
    ({"tta": {"views": -1}}, "tta.views", "at least 0"),
    ({"tta": {"views": 0, "weights": "plain_quarter"}}, "tta.weights", "tta.views"),
    ({"ensemble": {"members": "snapshots"}} | stage(), "ensemble.members", "last stage (head)"),
    ({"submission": {"clip": 0.5}}, "submission.clip", "below 0.5"),
    ({"device": {"kind": "gpu"}}, "device.kind", "cuda"),
    ({"device": {"precision": 16}}, "device.precision", "bfloat16"),
]


@pytest.mark.parametrize("config, key, words", BAD)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(config, key, words):
    with pytest.raises(UserError) as caught:
        resolve(config, "my.yaml")
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"my.yaml: {key}")]
    assert lines, caught.value
    assert words in lines[0]


def test_the_networks_are_torchvision_s():
    from torchvision import models

    assert load_schema()["$defs"]["network"]["anyOf"][1]["enum"] == models.list_models(module=models)


def test_the_whole_config_must_be_a_mapping():
    with pytest.raises(UserError, match=r"my.yaml: the whole is \[1\]; allowed: a mapping"):
        resolve([1], "my.yaml")


def test_one_message_names_every_mistake_once():
    keys = {"seed": -1, "tta": {"views": "x"}, "nmae": 1} | stage(lr="later", size=3) | {"split": {"use": [9]}}
    with pytest.raises(UserError) as caught:
        resolve(keys)
    named = [line.split()[1] for line in str(caught.value).splitlines()]
    assert sorted(named) == ["nmae", "recipe[0].size", "seed", "split.use", "tta.views"]


def test_a_key_with_the_wrong_name_hides_no_contradiction():
    with pytest.raises(UserError, match=r"(?s)recipe.0..sise.*recipe.0..lr"):
        resolve(stage(lr="later", sise=3))


def test_defaults_are_filled_in_at_every_level_and_the_input_is_left_alone():
    config = {"data": {"source": "folders", "root": "x"}} | stage()
    before = copy.deepcopy(config)
    result = resolve(config)
    assert config == before
    assert result["data"]["labels"] == "labels.csv"
    assert result["recipe"] == [
        {"name": "head", "size": 64, "train": "head", "augment": True, "cycles": 1, "cycle_len": 1, "cycle_mult": 1}
        | {"lr": "auto", "lr_ratio": 10.0, "snapshots": False, "first_view": 1, "min_steps": 100}
        | {"optimizer": "sgd", "weight_decay": 0.0, "schedule": "sgdr", "label_smoothing": 0.0, "mixup": 0.0}
        | {"cutmix": 0.0, "class_weights": "none", "sampler": "shuffled", "averaging": "none", "ema_decay": 0.99}
        | {"gpus": 1, "from": None, "until": None, "layer_decay": None, "warmup": 0.0, "grad_clip": None}
        | {"weight_decay_on": "all"}
    ]
    assert result["split"]["use"] == [0] and result["split"]["use"] is not resolve({})["split"]["use"]


def test_the_default_recipe_is_the_course_s():
    recipe = resolve({})["recipe"]
    assert [entry["name"] for entry in recipe] == ["linear", "head_plain", "head", "all", "head_299", "all_299"]
    assert [entry["size"] for entry in recipe] == [224, 224, 224, 224, 299, 299]
    assert [stage_epochs(entry) for entry in recipe] == [1, 1, 3, 7, 3, 7]
    assert [entry["train"] for entry in recipe[:2]] == ["linear", "head"]


def test_the_text_of_the_command_line_and_of_yaml_becomes_what_the_schema_wants():
    config = yaml.safe_load("recipe: [{name: '5', size: '64', train: head, lr: 1e-2, augment: 'False', lr_ratio: 3}]")
    config["recipe"][0]["name"] = "five"
    config |= {"split": {"use": ["0", "1"]}, "lr_find": {"steps": "40"}, "seed": 3.0, "submission": {"clip": "0"}}
    result = resolve(config | {"data": {"root": "null"}})
    entry = result["recipe"][0]
    assert (entry["size"], entry["lr"], entry["augment"], entry["lr_ratio"]) == (64, 0.01, False, 3.0)
    assert [type(entry[key]) for key in ("size", "lr", "lr_ratio")] == [int, float, float]
    assert result["split"]["use"] == [0, 1] and result["lr_find"]["steps"] == 40 and result["data"]["root"] is None
    assert type(result["seed"]) is int and type(result["submission"]["clip"]) is float


def test_equal_settings_are_equal_bytes_however_they_were_written():
    ways = [{"augmentation": {"max_rotate": value}} for value in (10, 10.0, "10", "1e1")]
    assert len({json.dumps(resolve(way)) for way in ways}) == 1


def test_text_stays_text_where_text_is_wanted():
    assert resolve({"run": "0.5"})["run"] == "0.5"
    assert resolve(data(id="1", separator=" "))["data"]["id"] == "1"


def test_a_section_with_every_line_commented_out_is_a_section_of_defaults():
    assert resolve({"tta": None}) == resolve({})


@pytest.mark.parametrize("name", ["s0", "s1"])
def test_a_rate_may_be_that_of_an_earlier_stage_that_names_another(name):
    assert resolve(stages("auto", "s0", name))["recipe"][2]["lr"] == name


@pytest.mark.parametrize(
    "cycles, length, mult, epochs", [(3, 1, 2, 7), (3, 1, 1, 3), (1, 5, 9, 5), (2, 2, 3, 8), (4, 1, 3, 40)]
)
def test_stage_epochs(cycles, length, mult, epochs):
    assert stage_epochs({"cycles": cycles, "cycle_len": length, "cycle_mult": mult}) == epochs


GOOD = st.fixed_dictionaries(
    {},
    optional={
        "run": st.from_regex(r"\A[a-b][a-z0-9._-]{0,9}\Z"),
        "seed": st.integers(0, 99),
        "augmentation": st.fixed_dictionaries({}, optional={"max_zoom": st.floats(1, 10) | st.just("1.2")}),
        "split": st.sampled_from([{"use": "all"}, {"use": [1, 0]}, {"folds": 3, "use": ["2"]}, None]),
        "lr_find": st.fixed_dictionaries({}, optional={"steps": st.sampled_from(["auto", 20, "50", 30.0])}),
        "recipe": st.lists(
            st.fixed_dictionaries(
                {"name": st.from_regex(r"\A[c-d][a-z_]{0,4}\Z"), "size": st.integers(16, 500), "train": st.just("all")},
                optional={"lr": st.sampled_from(["auto", 1, "1e-3", [1, 2, 3]]), "cycles": st.integers(1, 9)},
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda entry: entry["name"],
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(GOOD)
def test_resolving_again_changes_nothing(config):
    once = resolve(config)
    assert resolve(once) == once
    assert json.dumps(resolve(once)) == json.dumps(once)
    Draft202012Validator(load_schema()).validate(once)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted(load_schema()["properties"])), value=ANYTHING)
def test_any_value_is_taken_or_refused_by_its_key_and_nothing_else_happens(key, value):
    try:
        assert resolve({key: value})[key] is not None
    except UserError as error:
        assert all(line.startswith(f"config: {key}") for line in str(error).splitlines())


def test_the_schema_is_a_schema_and_describes_every_key():
    schema = load_schema()
    Draft202012Validator.check_schema(schema)

    def check(section: dict, required: list[str]) -> None:
        assert section["additionalProperties"] is False
        for name, entry in section["properties"].items():
            assert entry["description"].strip(), name
            assert "default" in entry or "properties" in entry or name in required
            if "properties" in entry:
                check(entry, [])

    check(schema, [])
    check(schema["properties"]["recipe"]["items"], schema["properties"]["recipe"]["items"]["required"])


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *EXAMPLES], ids=lambda path: path.name)
def test_shipped_configs_are_right(path):
    config = check_yaml_file(path)
    assert resolve(config, path.name)["run"] == ("demo" if path.name == "config.yaml" else path.stem)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_its_command_and_its_result_and_means_the_same_over_config_yaml(path):
    head = path.read_text().split("\n\nrun:")[0]
    assert f"CONFIG=examples/{path.name}" in head and "Expected" in head
    base, example = check_yaml_file(ROOT / "config.yaml"), check_yaml_file(path)
    merged = {**base, **example}  # as Snakemake does: sections merge, lists and values are replaced
    for key in base.keys() & example.keys():
        if isinstance(base[key], dict):
            merged[key] = base[key] | example[key]
    assert resolve(merged) == resolve(example)


def test_config_yaml_shows_every_key_and_its_commented_lines_are_the_defaults(tmp_path):
    text = (ROOT / "config.yaml").read_text()
    bare = tmp_path / "config.yaml"
    bare.write_text(re.sub(r"(?m)^( *)#(?=[a-z])", r"\1", text))
    shown = check_yaml_file(bare)
    assert resolve(shown) == resolve(check_yaml_file(ROOT / "config.yaml"))
    for key, entry in load_schema()["properties"].items():
        assert key in shown
        assert "properties" not in entry or set(shown[key]) == set(entry["properties"])
    for name in load_schema()["properties"]["recipe"]["items"]["properties"]:
        assert re.search(rf"(?m)^#   {name} ", text), name


@pytest.mark.parametrize(
    "text, words",
    [
        ("run: a\nseed: 1\nrun: b\n", "line 3: the key run is given twice, first in line 1"),
        ("tta:\n  views: 1\n  views: 2\n", "line 3: the key views is given twice"),
        ("recipe:\n  - {name: a, name: b}\n", "line 2: the key name is given twice"),
        ("run: a\ntta:\n\tviews: 1\n", "line 3: indented by a tab"),
        ("a: &x [1]\nb: *x\n", "line 1: anchors and aliases (here 'x')"),
        ("a: *x\n", "line 1: anchors and aliases"),
        ("run: a\non: 1\n", 'line 2: the key true is not text; put it in quotes: "on"'),
        ("run: [1\n", "line 2:"),
        ("run: !!python/object:os.system x\n", "line 1: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "line 2:"),
        ("- a\n", "must be a mapping"),
        ("just words\n", "must be a mapping"),
        ("a: 2024-13-01\n", "month"),
        ("a: !!map ab\n", "mapping"),
        ("a: \x01\n", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_a_yaml_file_that_snakemake_would_misread_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        check_yaml_file(path)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"run: caf\xe9\n")
    for name, words in [("latin.yaml", "not UTF-8"), ("absent.yaml", "cannot be read"), (".", "cannot be read")]:
        with pytest.raises(UserError, match=words):
            check_yaml_file(tmp_path / name)


def test_an_empty_file_is_an_empty_config(tmp_path):
    (tmp_path / "config.yaml").write_text("# nothing\n")
    assert check_yaml_file(tmp_path / "config.yaml") == {}
