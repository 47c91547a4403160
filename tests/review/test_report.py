"""The report page: built from files with hostile texts, it is whole, inert and fetches nothing; and the scripts of report and review."""

import html
import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_review import images_of

from eightfold.core import wording
from eightfold.core.files import read_json, write_json, write_table, write_text
from eightfold.review import plots, report, review, sheets

EVIL = "<script>alert(1)</script>"
CLASSES = [EVIL, 'cat "&" dog', "{{ 7 * 7 }}", "</pre><img src=x onerror=alert(2)>"]
SECTIONS = [
    "overview",
    "stages",
    "data",
    "mistakes",
    "classes",
    "sheets",
    "reliability",
    "ensemble",
    "timings",
    "config",
]
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class Page(html.parser.HTMLParser):
    """Every tag with its attributes, and all text outside style and script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "wbr", "input", "line", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def words_of_cells(row):
    """The text of each cell of a row of HTML."""
    cells = re.findall(r"<t[dh][ >].*?</t[dh]>", row, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in cells]


def measured():
    """What `evaluate` adds to metrics.json of two stages of which the last did harm, and was left out of the answer."""
    before = {"log_loss": {"by": 0.12, "error": 0.03}, "accuracy": {"by": -0.05, "error": 0.04}}
    shared = {"folds": ["0"], "epochs": 2, "images": 60, "since_best": None, "last_cycle": {"by": -0.1, "error": 0.02}}
    shared |= {"errors": {"accuracy": 0.03, "log_loss": 0.02}}
    training = {"log_loss": 0.15, "error": 0.01, "images": 240, "view": 0}
    head = {"stage": "head", "figures": {"accuracy": 0.95, "log_loss": 0.2}, "training": training, "before": None}
    whole = {"stage": "all", "figures": {"accuracy": 0.9, "log_loss": 0.32}, "training": training}
    names = [f"{stage}, snapshot {k}, view {j}" for stage in ("head", "all") for k in (1, 2, 3) for j in range(5)]
    members = [
        {
            "member": name,
            "weight": 1 / 8 if k < 8 else 0,
            "alone": {"log_loss": 0.3 - k / 200},
            "without": {"log_loss": 0.21},
        }
        for k, name in enumerate(names)
    ]
    return {
        "metric": "log_loss",
        "by_stage": [shared | head, shared | whole | {"before": {"stage": "head"} | before}],
        "baseline": {"class": EVIL, "accuracy": 0.54, "log_loss": 0.69, "images": 60},
        "final_of": f"the average that answers {EVIL}",
        "ensemble": {"weights": "greedy", "members": members, "all": {"log_loss": 0.2}},
    }


def make_run(root, folds=("0",), validated=True):
    """The files of a run, and the named lists that report.gather takes."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 60 if validated else 0)
    scores = rng.random((len(targets), 4)) + 2 * np.eye(4)[targets]
    chances = scores / scores.sum(1, keepdims=True)
    figures = {name: root / f"{name}.svg" for name in [*report.EXPLORE, *report.SAMPLES, "confusion", *report.SHEETS]}
    for path in figures.values():
        sheets.sheet(path, [np.zeros((8, 8, 3), np.uint8)] * 2, [EVIL, EVIL], title=EVIL)
    files = {
        "metrics": [root / "metrics.json"],
        "manifest_identity": [root / "manifest.json"],
        "folds": [root / "folds.json"],
        "explore": [figures[name] for name in [*report.EXPLORE, *report.SAMPLES]],
        "review": [figures[name] for name in ["confusion", *report.SHEETS]],
        "tables": [root / "tables.json"],
        "timings": [root / "timings.csv"],
        "rejected": [root / "rejected.csv"],
        **{name: [] for name in ("stages", "histories", "lr_finds", "plots")},
    }
    figure = {"accuracy": 0.95, "log_loss": 0.2, "images": 60}
    final = {"final": figure, "no_tta": {**figure, "accuracy": 0.9}} if validated else {"final": {}, "no_tta": {}}
    told = {**final, "stages": [], "folds": [figure] * len(folds) if validated else []}
    write_json(files["metrics"][0], told | (measured() if validated else {}))
    counts = {"train": 300, "valid": 0, "test": 7, "rejected": 1}
    write_json(files["manifest_identity"][0], {"classes": CLASSES, "task": "single", "counts": counts, "root": EVIL})
    write_json(files["folds"][0], {"method": "stratified", "folds": 5, "counts": {"0": 60, "-1": 3}})
    write_json(files["tables"][0], review.tables(images_of(chances, targets, CLASSES), "single", {}))
    write_text(
        files["timings"][0], f"job,step,after,seconds,peak_mb\n{EVIL},{EVIL},,12.5,800\ntrain,train,{EVIL},3605,-\n"
    )
    write_text(files["rejected"][0], f"id,path,split,reason\n{EVIL},a.png,train,broken\n")
    for fold in folds:
        for name in ("head", "all"):
            folder = root / f"fold{fold}" / name
            valid = [0.5, 0.3] if validated else [None, None]
            history = pd.DataFrame({"epoch": [0, 1], "train_loss": [0.6, 0.35], "valid_loss": valid, "seconds": 2.0})
            write_table(folder / "history.csv", history.assign(accuracy=0.9 if validated else None))
            stage = {"stage": name, "fold": fold, "size": 64, "train": name, "epochs": 2, "lr": [1e-4, 1e-3, 0.01]}
            stage |= {"lr_source": EVIL, "train_loss": 0.35, "metrics": figure if validated else {}, "device": "cpu"}
            stage["versions"] = {"torch": "2.0", EVIL: EVIL}
            stage |= {"images": {"train": 240, "valid": 60}, "precision": "float32"}
            write_json(folder / "stage.json", stage)
            write_json(folder / "lr_find.json", {"message": EVIL})
            for plot in ("lr_find", "loss", "lr"):
                sheets.sheet(folder / f"{plot}.svg", [], [], title=EVIL)
                files["plots"].append(folder / f"{plot}.svg")
            files["stages"].append(folder / "stage.json")
            files["histories"].append(folder / "history.csv")
            files["lr_finds"].append(folder / "lr_find.json")
    return files


SETTINGS = {
    "run": EVIL,
    "config": {"run": "x", "model": {"arch": "resnet34"}, "data": {"root": CLASSES[3]}},
}


def test_a_linear_stage_shows_its_strength_and_no_verdict_on_its_length(tmp_path):
    files = make_run(tmp_path)
    folder = tmp_path / "fold0" / "linear"
    history = {"epoch": [1], "train_loss": [0.01], "valid_loss": [0.4], "accuracy": [0.9], "seconds": [1.0]}
    write_table(folder / "history.csv", pd.DataFrame(history))
    stage = {"train": "linear", "epochs": 1, "size": 64, "lr": [], "train_loss": 0.01, "metrics": {"log_loss": 0.4}}
    write_json(folder / "stage.json", stage | {"lr_source": "C = 0.01 by 4 inner folds"})
    plots.strength_plot(folder / "strength.svg", {"tried": [0.01, 0.1], "log_loss": [0.4, 0.5], "chosen": 0.01})
    for name, file in (("stages", "stage.json"), ("histories", "history.csv"), ("plots", "strength.svg")):
        files[name].insert(0, folder / file)
    context = report.gather(files, SETTINGS)
    first = context["stages"][0]
    assert first["verdict"]["kind"] == "unknown"
    assert [figure["name"] for figure in first["figures"]] == ["strength"]
    page = report.render(context)
    assert "C = 0.01 by 4 inner folds" in page and "Strength of the penalty, linear" in page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    files = make_run(tmp_path_factory.mktemp("run"), folds=("0", "1"))
    return report.render(report.gather(files, SETTINGS))


def test_the_ensemble_says_what_each_member_adds_and_tuning_what_it_did(tmp_path):
    files = make_run(tmp_path)
    told = json.loads(files["metrics"][0].read_text())
    both = {"log_loss": 0.3, "roc_auc": 0.9}
    members = [
        {"member": EVIL, "weight": 0.75, "alone": both, "without": {"log_loss": 0.5, "roc_auc": 0.8}},
        {"member": "b", "weight": 0.25, "alone": {"log_loss": 0.6, "roc_auc": 0.7}, "without": None},
    ]
    step = {
        "what": "cut_points",
        "value": [0.51234, 1.5],
        "metric": EVIL,
        "before": 0.5,
        "after": 0.625,
        "in_sample": 0.75,
    }
    told |= {"metric": "roc_auc", "ensemble": {"weights": "greedy", "members": members, "all": both}}
    unused = step | {"what": "temperature", "value": 1.1374, "used": False}
    write_json(files["metrics"][0], told | {"tuning": [step | {"used": True}, unused]})
    context = report.gather(files, SETTINGS)
    table = context["ensemble"]
    assert table["columns"] == ["roc_auc", "log_loss"] and table["best"]["name"] == EVIL
    assert table["rows"][0]["gain"] == {"roc_auc": pytest.approx(0.1), "log_loss": pytest.approx(0.2)}
    page = report.render(context)
    found = Page(page)
    assert EVIL not in page and EVIL in found.text
    rows = re.findall(r'<th scope="row">(cut points|temperature)</th>.*?<td>(yes|no[^<]*)</td></tr>', page, re.DOTALL)
    assert rows == [("cut points", "yes"), ("temperature", "no, did not help")]
    assert "greedy selection" in found.text and "cut points" in found.text and "0.512, 1.5" in found.text
    assert (
        "0.6250" in found.text
        and ("script", {}) in found.tags
        and len([t for t, _ in found.tags if t == "script"]) == 1
    )


def test_every_section_is_there_and_every_tag_is_closed(page):
    found = Page(page)
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert found.open == [] and len(ids) == len(set(ids)) and set(SECTIONS) <= set(ids)
    anchors = {attrs["href"][1:] for tag, attrs in found.tags if tag == "a"}
    assert anchors <= set(ids) and set(SECTIONS) <= anchors
    assert len(page) < 10_000_000


def test_hostile_text_is_shown_and_inert(page):
    found = Page(page)
    assert [tag for tag, _ in found.tags].count("script") == 1 and EVIL not in page
    for text in (*CLASSES[:3], "root: </pre><img src=x onerror=alert(2)>", f"{EVIL}12.5 s"):
        assert text in found.text
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]


def test_nothing_is_fetched(page):
    for tag, attrs in Page(page).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), (tag, attrs)
        assert "url(" not in attrs.get("style", "")
    assert "@import" not in page and "url(" not in page and "default-src 'none'" in page


def test_every_image_and_scroll_area_has_a_name(page):
    found = Page(page)
    images = [attrs for tag, attrs in found.tags if tag == "img"]
    assert len(images) == 4 + 2 * (2 + 6) + 4 * 3 and all(attrs.get("alt", "").strip() for attrs in images)
    for tag, attrs in found.tags:
        if attrs.get("role") in ("region", "img"):
            assert attrs.get("aria-label", "").strip(), tag


def test_a_name_breaks_where_its_parts_end():
    for name in ("azure_cross_medium", "a/b-c", "__", "", "plain", "x_"):
        assert "".join(wording.parts(name)) == name
    assert wording.parts("train/azure_cross") == ["train/", "azure_", "cross"]


@pytest.mark.parametrize(
    ("tuned", "what"), [({"thresholds": 0.2}, "thresholds"), ({"cut_points": [1]}, "cut points"), ({}, "")]
)
def test_what_decides_is_said_where_it_was_tuned(tmp_path, tuned, what):
    files = make_run(tmp_path)
    images = images_of(np.array([[0.9, 0.1]]), np.array([0]), ["0", "1"])
    write_json(files["tables"][0], review.tables(images, "single", tuned))
    text = " ".join(Page(report.render(report.gather(files, SETTINGS))).text.split())
    assert ("What is predicted here is what the submission answers" in text) == bool(what)
    assert f"by {what} fitted on these images" in text or not what


def test_the_headline_says_how_sure_it_is(page):
    text = " ".join(Page(page).text.split())
    assert "95.00 %" in text and f"± {100 * np.sqrt(0.95 * 0.05 / 60):.2f} % standard error" in text
    assert "without TTA 90.00 %" in text and "Accuracy by fold: 95.00 %, 95.00 %." in text
    assert "1 h 00 min" in text and "highest memory 800 MB" in text
    assert "all · fold 1" in text and "0.0001 / 0.001 / 0.01" in text


def test_a_baseline_stands_beside_every_score(page):
    text = " ".join(Page(page).text.split())
    assert f"always {EVIL}: 54.00 %" in text and "class shares: 0.6900" in text
    foot = re.search(r"<tfoot><tr>(.*?no training.*?)</tr></tfoot>", page, re.DOTALL)[1]
    assert words_of_cells(foot)[1:3] == ["no training", "54.00 %"] and "0.6900" in foot
    assert f"How these figures were made: the average that answers {EVIL}." in text


def test_the_table_of_stages_shows_paired_changes_weights_and_what_was_undone(page):
    row = re.search(r'<tr><th scope="row"><a href="#stage-2">all</a>.*?</tr>', page, re.DOTALL)[0]
    cells = words_of_cells(row)
    assert cells[:2] == ["all all layers · 64 px · 2 epochs", "Worse than the stage before, undone"]
    assert cells[2:7] == [
        "90.00 % ± 3.00 %",
        "−5.00 % ± 4.00 %",
        "0.3200 ± 0.0200",
        "+0.1200 ± 0.0300",
        "0.1500 ± 0.0100",
    ]
    assert cells[7] == "0.00 %"
    text = " ".join(Page(page).text.split())
    assert (
        "0.12 ± 0.03 more than after head" in text
        and "It is undone: none of its networks has a part in the answer." in text
    )


def test_members_without_weight_are_counted_and_not_listed(tmp_path):
    files = make_run(tmp_path)
    table = report.gather(files, SETTINGS)["ensemble"]
    assert len(table["rows"]) == 8 and table["idle"] == 22 and table["members"] == 30
    weights = {group["name"]: (group["weight"], group["answering"], group["members"]) for group in table["groups"]}
    assert weights == {"head": (1, 8, 15), "all": (0, 0, 15)}
    assert table["best"]["full"] == "all, snapshot 3, view 4" and table["rows"][0]["name"] == "snapshot 1, view 0"
    text = " ".join(Page(report.render(report.gather(files, SETTINGS))).text.split())
    assert "8 of them answer; 22 got no weight and are left out of the table" in text
    assert "8 of 15" in text and "snapshot 3, view 4 (log_loss 0.1550)" in text


def test_a_run_without_validation_says_so(tmp_path):
    files = make_run(tmp_path, folds=("all",), validated=False)
    found = Page(report.render(report.gather(files, SETTINGS)))
    text = " ".join(found.text.split())
    assert found.open == [] and "Not measured" in text and "None" not in text and "nan" not in text
    assert "There are no validation images" in text


def test_stages_of_several_versions_are_named_with_what_each_made(tmp_path):
    files = make_run(tmp_path, folds=("0", "1"))
    assert (
        "Not all stages were made by the same software" not in Page(report.render(report.gather(files, SETTINGS))).text
    )
    path = files["stages"][0]
    write_json(path, read_json(path) | {"versions": {"torch": "1.9"}})
    shown = Page(report.render(report.gather(files, SETTINGS))).text
    assert "Not all stages were made by the same software" in shown
    assert f"1.9: fold {path.parent.parent.name.removeprefix('fold')} {path.parent.name}; 2.0: " in shown


def test_no_file_at_all_is_still_a_page():
    found = Page(report.render(report.gather({}, {"run": "x"})))
    assert found.open == [] and "No stage was trained." in found.text


def test_same_files_same_bytes(page, tmp_path):
    assert report.render(report.gather(make_run(tmp_path, folds=("0", "1")), SETTINGS)) == page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.24, "4.2 s"), (59.99, "1 min 00 s"), (60, "1 min 00 s"), (3599.7, "1 h 00 min"), (7620, "2 h 07 min")],
)
def test_time_as_people_say_it(seconds, text):
    assert wording.time_text(seconds) == text


# A script runs in its own process, since it takes over the process's signals. It sees what Snakemake would hand it.
PROGRAM = """
import json, runpy, sys
from types import SimpleNamespace
script, given = sys.argv[1], json.loads(sys.argv[2])
class Named(SimpleNamespace):
    def get(self, name, default=None): return getattr(self, name, default)
    def __getitem__(self, number): return list(vars(self).values())[number]
    def __iter__(self): return iter(vars(self).values())
sys.path.insert(0, script.rpartition("/")[0])
snakemake = SimpleNamespace(input=Named(**given["input"]), output=Named(**given["output"]), threads=1,
                            log=[given["log"]], params=Named(settings=given["settings"]))
runpy.run_path(script, init_globals={"snakemake": snakemake}, run_name="__main__")
"""


def run_script(name, **given):
    given = json.dumps(given, default=str)
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(SCRIPTS / name), given], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_the_script_of_the_report(tmp_path):
    files = make_run(tmp_path)
    files |= {name: paths[0] for name, paths in files.items() if len(paths) == 1}  # one path is not a list in Snakemake
    run_script(
        "report.py",
        input=files,
        output={"report": tmp_path / "r.html", "config": tmp_path / "c.json"},
        settings=SETTINGS,
        log=tmp_path / "log.txt",
    )
    assert Page((tmp_path / "r.html").read_text()).open == []


@pytest.mark.parametrize("task", ["single", "multi", "nothing held out", "multi, tuned"])
def test_the_script_of_the_review(tmp_path, task):
    from eightfold.inputs import dataset, pixels

    rng = np.random.default_rng(0)
    classes = ["id", "label", EVIL]
    ids = [f"00{number}" for number in range(12)] + ["nan"]
    labels = [classes[number % 3] if task[:5] != "multi" or number % 2 else "id|label" for number in range(12)] + [""]
    table = pd.DataFrame({"id": ids, "path": ids, "split": ["train"] * 12 + ["test"], "labels": labels})
    table = table.assign(group="", fold_given="", width=8, height=8, mode="RGB", bytes=1, sha256="x", status="ok")
    info = {"task": "multi" if task[:5] == "multi" else "single", "classes": classes, "separator": "|", "root": "."}
    info["counts"] = {"train": 12, "valid": 0, "test": 1, "rejected": 0}
    info["digest"] = dataset.identity(table, info)
    write_table(tmp_path / "manifest.csv", table)
    write_json(tmp_path / "manifest.json", info)
    pixels.pack(tmp_path / "px", list(rng.integers(0, 255, (13, 8, 8, 3), dtype=np.uint8)))
    index = pixels.Pixels(tmp_path / "px").index
    write_json(tmp_path / "px" / "pixels.json", {"index": pixels.index_digest(index)})
    held_out = slice(0, 0) if task == "nothing held out" else slice(2, 12)
    chances = pd.DataFrame(np.eye(3)[np.arange(12) % 3] * 0.8 + 0.1, columns=classes)
    valid = pd.concat([table[["id"]][:12], table["labels"][:12].rename("label"), chances], axis=1)[held_out]
    write_table(tmp_path / "valid.csv", valid.iloc[::-1])
    write_json(tmp_path / "tuning.json", {"thresholds": 0.05 if task == "multi, tuned" else None, "temperature": 2.0})
    names = [*report.SHEETS, "confusion"]
    told = run_script(
        "review.py",
        input={
            "valid": tmp_path / "valid.csv",
            "tuning": tmp_path / "tuning.json",
            "manifest": tmp_path / "manifest.csv",
            "manifest_identity": tmp_path / "manifest.json",
            "pixels": tmp_path / "px" / "pixels.json",
        },
        output={name: tmp_path / f"{name}.svg" for name in names}
        | {"tables": tmp_path / "tables.json", "label_noise_table": tmp_path / "label_noise.csv"},
        settings={"seed": 0, "per_sheet": 8},
        log=tmp_path / "log.txt",
    )
    found = json.loads((tmp_path / "tables.json").read_text())
    wrong = {"single": 0, "multi": 5, "nothing held out": 0, "multi, tuned": 10}[task]  # by 0.05 all three are answered
    assert found["wrong"] == wrong and f"{len(valid)} validation images, {wrong} predicted wrongly" in told
    random_wrong = (tmp_path / "random_wrong.svg").read_text()
    expected = {"single": "None: all of the 10 validation images are right.", "multi": "actual id, label"}
    expected["multi, tuned"] = "predicted id, label, &lt;script&gt;alert(1)&lt;/script&gt;\n"
    assert expected.get(task, "There are no validation images.") in random_wrong
    assert random_wrong.count("<image") == min(wrong, 8)
    assert (tmp_path / "most_correct.svg").read_text().count("<image") == {"single": 8, "multi": 5}.get(task, 0)
