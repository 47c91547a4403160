"""Rubbish and malice in tables, configs, files of weights and names: refused clearly, never run, never let out."""

import csv
import io
import os
import pickle
import re
import stat
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import corpus
import numpy as np
import pytest
import test_config
import torch
import yaml
from pipeline import Checkout, changed
from test_kaggle import KEY, answer, kaggle  # noqa: F401 - fixtures

from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core import tensors
from eightfold.core.files import UserError, read_json
from eightfold.inputs import dataset, pixels
from eightfold.net import checkpoint_parts, starting_weights
from eightfold.raw import kaggle_client, manifest

QUICK = 2.0  # seconds of processor time that a refusal may take

# ---- tables

GOOD = "id,label\na1,ant\na2,ant\nb1,bee\nb2,bee\n"
HUGE = "x" * 10_000_000
TABLES = {  # content of labels.csv, and words of the refusal; None where it is to be read as GOOD is
    "byte order mark": ("\ufeff" + GOOD, None),
    "line ends of Windows": (GOOD.replace("\n", "\r\n"), None),
    "line ends of an old Mac": (GOOD.replace("\n", "\r"), None),
    "every cell quoted": ('"id","label"\n' + "".join(f'"{n}","{x}"\n' for n, x in (("a1", "ant"), ("a2", "ant"), ("b1", "bee"), ("b2", "bee"))), None),
    "empty lines": (GOOD.replace("\n", "\n\n"), None),
    "semicolons": (GOOD.replace(",", ";"), "no column 'id'"),
    "tabs": (GOOD.replace(",", "\t"), "no column 'id'"),
    "no head": (GOOD.partition("\n")[2], "no column 'id'"),
    "a column is missing": ("id\na1\na2\nb1\nb2\n", "no column 'label'"),
    "a column twice": (GOOD.replace("id,label", "id,id"), "2 columns"),
    "upper case head": (GOOD.replace("id,label", "Id,Label"), "no column 'id'.*did you mean 'Id'"),
    "a cell too many": (GOOD + "b3,bee,x\n", "line 6: 3"),
    "a cell too few": (GOOD + "b3\n", "line 6: 1"),
    "a quote that does not end": (GOOD + 'b3,"bee\n', "not CSV"),
    "a quote in a cell": (GOOD + 'b3,"be"e"\n', "not CSV"),
    "a cell of 10 MB": (GOOD + f"b3,{HUGE}\n", "field larger than field limit"),
    "an id of 10 MB in quotes": (GOOD + f'"{HUGE}",bee\n', "field larger than field limit"),
    "a zero byte": (GOOD + "b\0,bee\n", "zero byte|NUL|not CSV"),
    "a carriage return in quotes": (GOOD + '"b\r3",bee\n', "carriage return"),
    "latin-1": (GOOD.encode() + "b3,M\xfccke\n".encode("latin-1"), "not UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), "not UTF-8"),
    "an image": (corpus.PNG, "not UTF-8"),
    "a web page": ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "no column 'id'|columns"),
    "a pickle": (pickle.dumps(corpus.Planted("run-by-a-pickle")), "not UTF-8|no column|columns|rows"),
    "nothing": ("", "without rows"),
    "a head alone": ("id,label\n", "without rows"),
    "200,000 columns": (",".join(map(str, range(200_000))) + "\n" + "," * 199_999 + "\n", "no column 'id'"),
    "an empty id": (GOOD + ",bee\n", "id is empty"),
    "an id twice": (GOOD + "a1,bee\n", "'a1': line 2 and line 6"),
    "an id that leaves the folder": (GOOD + "../../etc/passwd,bee\n", "leads out of the data folder"),
    "an absolute id": (GOOD + "/etc/passwd,bee\n", "leads out of the data folder"),
    "one class": ("id,label\na1,ant\na2,ant\nb1,ant\nb2,ant\n", "one class"),
}  # fmt: skip


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    (root / "train").mkdir()
    for name in ("a1", "a2", "b1", "b2"):
        (root / "train" / f"{name}.png").write_bytes(corpus.PNG)
    return root


def of_table(root: Path, content: str | bytes, **data) -> dict:
    (root / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return resolve({"data": {"source": "csv", "root": str(root), "suffix": ".png", **data}})["data"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_rightly_or_refused_at_once(image_folder, name, monkeypatch):
    content, words = TABLES[name]
    data = of_table(image_folder, content)
    if words is None:
        table = manifest.build(data).table
        assert table[["id", "labels"]].to_numpy().tolist() == [
            ["a1", "ant"],
            ["a2", "ant"],
            ["b1", "bee"],
            ["b2", "bee"],
        ]
        return
    looked = []
    monkeypatch.setattr(
        manifest, "_look_at_all", lambda store, rows, threads: looked.append(1) or [manifest.Look()] * len(rows)
    )
    began = time.process_time()
    with pytest.raises(UserError, match=words):
        manifest.build(data)
    assert time.process_time() - began < QUICK
    assert not looked or name == "one class"  # before any image was opened
    assert not list(Path().glob("run-by-a-*"))


def test_formulas_quoted_line_feeds_and_tags_are_ids_like_any_other(tmp_path):
    names = ["=cmd('calc')!A1", "+1+1", "-2", "@SUM(A1)", "two\nlines", "<script>", "a;b", "$(x)"]
    (tmp_path / "train").mkdir()
    for name in names:
        (tmp_path / "train" / f"{name}.png").write_bytes(corpus.PNG)
    file = io.StringIO()
    csv.writer(file).writerows([("id", "label"), *((name, f"kind {n % 2}") for n, name in enumerate(names))])
    manifest.write_manifest(tmp_path / "out", manifest.build(of_table(tmp_path, file.getvalue())))
    assert dataset.read_manifest(tmp_path / "out")[0]["id"].tolist() == names


# ---- configs

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOLES = "(" * 3000
STAGE = "recipe: [{name: a, train: head, size: 32, %s}]\n"
CONFIGS = {  # text of config.yaml, and words of the refusal
    "a bomb of anchors": (BOMB, "anchors and aliases"),
    "an anchor that holds itself": ("a: &a [*a]\n", "anchors and aliases"),
    "merged keys": ("a: &a {x: 1}\nb: {<<: *a}\n", "anchors and aliases"),
    "a tab": ("run: x\ndata:\n\tsource: demo\n", "indented by a tab"),
    "a key twice": ("run: x\nrun: y\n", "given twice"),
    "a key twice, deep down": ("tta: {views: 1, views: 2}\n", "given twice"),
    "a python object": ("run: !!python/object/apply:os.system [touch run-by-yaml]\n", "constructor"),
    "a python name": ("run: !!python/name:os.system\n", "constructor"),
    "no mapping": ("- a\n- b\n", "must be a mapping"),
    "two documents": ("run: x\n---\nrun: y\n", "line 2"),
    "binary": ("run: \x07\n", "not YAML"),
    "brackets without end": ("[" * 10_000, "not YAML"),
    "braces without end": ("{a: " * 5000, "not YAML|line"),
    "1e9 epochs": (STAGE % "cycles: 1000000000", "cycles"),
    "1e9 epochs in a cycle": (STAGE % "cycle_len: 1e9", "cycle_len"),
    "cycles that grow without end": (STAGE % "cycles: 10000, cycle_mult: 10000", "more than"),
    "a negative size": (STAGE.replace("32", "-32") % "lr: 1", "size"),
    "a size of a million": (STAGE.replace("32", "1000000") % "lr: 1", "size"),
    "a rate that is not a number": (STAGE % "lr: .nan", "lr"),
    "an infinite rate": (STAGE % "lr: .inf", "lr"),
    "a negative batch": ("batch_size: -64\n", "batch_size"),
    "a batch of a billion": ("batch_size: 1000000000\n", "batch_size"),
    "a batch in words": ("batch_size: many\n", "batch_size"),
    "views by the million": ("tta: {views: 1000000}\n", "tta.views"),
    "shards by the million": ("shards: 1000000\n", "shards"),
    "a run that leaves its folder": ("run: ../../etc\n", "run"),
    "a run for a shell": ("run: 'x; touch run-by-a-shell'\n", "run"),
    "a run of a dollar": ("run: $(touch run-by-a-shell)\n", "run"),
    "a folder that leaves the root": ("data: {source: csv, root: x, train: ../..}\n", "data.train"),
    "an absolute folder": ("data: {source: csv, root: x, test: /etc}\n", "data.test"),
    "a stage for a shell": ("recipe: [{name: 'a`id`', train: head, size: 32}]\n", "name"),
    "an expression without end": ("data: {source: filename, root: x, pattern: '(?P<label>'}\n", "data.pattern"),
    "an expression of 3000 groups": (f"data: {{source: filename, root: x, pattern: '{HOLES}'}}\n", "data.pattern"),
    "an expression that repeats too often": (
        "data: {source: filename, root: x, pattern: '(?P<label>a{1,99999999999})'}\n",
        "data.pattern",
    ),
    "an unknown key": ("bacth_size: 3\n", "did you mean batch_size"),
    "an unknown key, deep down": ("data: {sauce: demo}\n", "data.sauce"),
    "a list for a text": ("run: [a, b]\n", "run"),
    "a mapping for a number": ("seed: {a: 1}\n", "seed"),
    "true for a number": ("seed: true\n", "seed"),
    "a seed of 400 digits": (f"seed: {'9' * 400}\n", "seed"),
    "a fraction for a whole": ("seed: 1.5\n", "seed"),
    "a name of 10 MB": (f"run: {HUGE}\n", "larger than"),
    "a name of 200 KB": (f"run: {HUGE[:200_000]}\n", "run"),
    "an unknown network": ("model: {arch: resnet1e9}\n", "model.arch"),
    "a device that is none": ("device: {kind: toaster}\n", "device.kind"),
    "no stage": ("recipe: []\n", "recipe"),
    "a fold that is not there": ("split: {folds: 3, use: [7]}\n", "split.use"),
    "-5 folds": ("split: {folds: -5}\n", "split.folds"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_config_is_refused_at_once(tmp_path, name):
    text, words = CONFIGS[name]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(UserError, match=words) as caught:
        resolve(check_yaml_file(path), str(path))
    assert time.process_time() - began < QUICK
    assert all(line.startswith(str(path)) and len(line) < 4000 for line in str(caught.value).splitlines())
    assert not list(Path().glob("run-by-*"))


def test_there_are_more_bad_configs_than_promised():
    assert len(CONFIGS) >= 40 and len(test_config.BAD) >= 100


# ---- pickles


@pytest.fixture
def canary(tmp_path) -> Path:
    """The file that a planted pickle would make; it must not be there when the test is over."""
    path = tmp_path / "run-by-a-pickle"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("disguise", ["pickle", "zip of torch", "npy"])
@pytest.mark.parametrize("reader", ["checkpoint", "resume", "activations", "index", "weights", "labels"])
def test_a_planted_pickle_is_refused_and_never_run(tmp_path, canary, reader, disguise):
    planted = corpus.Planted(str(canary))
    path = tmp_path / {"index": "index.npy", "weights": "w.pth", "labels": "labels.npy"}.get(reader, "x.safetensors")
    if disguise == "pickle":
        path.write_bytes(pickle.dumps({"a": planted}))
    elif disguise == "zip of torch":
        torch.save({"a": planted}, path)
    else:
        with open(path, "wb") as file:
            np.save(file, np.array([planted], object), allow_pickle=True)
    readers = {
        "checkpoint": lambda: checkpoint_parts.load_part(torch.nn.Linear(1, 1), path, "head"),
        "resume": lambda: tensors.load(path, "me"),
        "activations": lambda: tensors.load(path),
        "index": lambda: pixels.Pixels(tmp_path),
        "weights": lambda: starting_weights.pretrained("resnet18", str(path), 0),
        "labels": lambda: manifest.build(
            resolve({"data": {"source": "csv", "root": str(tmp_path), "labels": "labels.npy"}})["data"]
        ),
    }
    with pytest.raises(UserError) as caught:
        readers[reader]()
    assert path.name in str(caught.value) or str(tmp_path) in str(caught.value)
    assert "weights_only" not in str(caught.value) and "trust" not in str(caught.value)  # torch's advice is to allow it


def test_no_script_reads_pickles():
    """torch.load only with weights_only, numpy never with allow_pickle, pickle and its like never."""
    root = Path(manifest.__file__).parents[2]
    for path in [*root.glob("*.py"), *root.glob("eightfold/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text and "import pickle" not in text, path
        assert text.count("torch.load(") == text.count("weights_only=True"), path
        for word in (r"\bos\.system\(", r"\bshell=True", r"(?<![.\w])eval\(", r"(?<![.\w])exec\("):
            assert not re.search(word, text), (path, word)


# ---- names through every rule

EVIL = ["a; touch run-by-a-shell", "$(touch run-by-a-shell)", "it's", 'say "x"', "two\nlines", "-rf", "=1+1", "{fold}"]
CLASSES = ["<script>alert('class')</script>", '$(touch run-by-a-shell); "it\'s"\n& more']


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Checkout:
    """A finished run whose images and classes have names that a shell, a page or a table would stumble over."""
    checkout = Checkout.new(tmp_path_factory.mktemp("hostile") / "it's; a $(folder)")
    root, rows = checkout["pictures"], []
    (root / "all").mkdir()
    (root / "unseen").mkdir()
    for number, source in enumerate(sorted(root.glob("train/*/*.png"))):
        name = f"{EVIL[number % len(EVIL)]}{number}"
        source.rename(root / "all" / f"{name}.png")
        rows.append((name, CLASSES[number * 2 // 24]))
    for number, source in enumerate(sorted((root / "test").glob("*.png"))):
        source.rename(root / "unseen" / f"{EVIL[number]}<img src=x onerror=alert(1)>.png".replace("/", ""))
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "label"), *rows])
    config = changed(recipe=[{"name": "head", "size": 32, "train": "head", "augment": False}], tta={"views": 0})
    config["data"] = {"source": "csv", "root": "pictures", "train": "all", "test": "unseen", "suffix": ".png"}
    checkout.configure(config)
    checkout.first_output = checkout.run("submission")
    return checkout


def test_names_for_a_shell_go_through_every_rule_and_run_nothing(hostile):
    assert not list(hostile.folder.parent.rglob("run-by-a-shell*")) and not list(Path().glob("run-by-*"))
    with open(hostile["results/tiny/submission.csv"], newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert set(head[1:]) == set(CLASSES)
    assert {row[0] for row in rows} == {path.stem for path in hostile["pictures/unseen"].iterdir()}
    info = read_json(next(hostile["results/cache"].glob("data-*/manifest.json")))
    assert set(info["classes"]) == set(CLASSES) and info["counts"]["train"] == 24


class Tags(HTMLParser):
    """The tags of a page, and the attributes that would run something."""

    def __init__(self):
        super().__init__()
        self.tags, self.running, self.scripts, self._in_script = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.running += [
            (tag, name) for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")
        ]
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts.append(data)


def test_the_page_and_the_plots_hold_the_names_as_text_only(hostile):
    page = Tags()
    page.feed(hostile["results/tiny/report.html"].read_text(encoding="utf-8"))
    assert not page.running and all("alert(" not in script for script in page.scripts)
    plots = list(hostile["results/tiny"].rglob("*.svg"))
    assert len(plots) > 10
    for path in plots:
        for element in ET.fromstring(path.read_text(encoding="utf-8")).iter():
            assert not element.tag.endswith("script") and not any(name.startswith("on") for name in element.attrib), (
                path
            )


def test_results_are_not_executable_and_lead_nowhere(hostile, finished):
    for checkout in (hostile, finished):
        for path in checkout["results"].rglob("*"):
            assert not path.is_symlink(), path
            if path.is_file():
                assert not path.stat().st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH | stat.S_IWOTH), path


# ---- credentials


def test_the_key_of_kaggle_is_in_no_log_no_result_and_no_list_of_processes(kaggle, answer, tmp_path, caplog, capfd):  # noqa: F811
    told: list[str] = []
    seen: list[bytes] = []

    def report(text: str) -> None:
        told.append(text)
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(entry.read_bytes())
            except OSError:
                continue

    kaggle_client.download("dogs", tmp_path / "data")
    result = kaggle_client.submit("dogs", answer, "run", 0.01, 5, report)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    captured = capfd.readouterr()
    texts = [caplog.text, captured.out, captured.err, repr(result), *told, *map(os.fsdecode, seen + written)]
    assert told and seen and written and not any(KEY in text for text in texts)


def test_a_config_that_snakemake_would_take_is_refused_before_any_rule(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    checkout["bad.yaml"].write_text(yaml.safe_dump({"run": "x; touch run-by-a-shell", "batch_size": -1}))
    output = checkout.run("submission", "--configfile", "bad.yaml", ok=False)
    assert "bad.yaml: run" in output and "bad.yaml: batch_size" in output and "Traceback" not in output
    assert "rule " not in output and not checkout["run-by-a-shell"].exists()
    checkout["bomb.yaml"].write_text(BOMB)
    assert "anchors and aliases" in checkout.run("submission", "--configfile", "bomb.yaml", ok=False)
