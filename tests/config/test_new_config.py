"""`make new`: the first config is shown, written where a person agrees, and holds; nothing that is there is overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_guess import ants_bees, write_images

from eightfold.config.guess import infer
from eightfold.config.new_config import Cost, Machine, job_of, new_text, write_config
from eightfold.config.quality import Budget, ladder
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError

MACHINE = Machine(False, lambda config, layout: Cost(90.0, 1500.0, "on 3 cores"))
SCRIPT = Path(__file__).parents[2] / "scripts" / "new_config.py"


@pytest.mark.parametrize(
    ("answer", "written"), [("", True), (" Y", True), ("yes", True), ("n", False), ("what?", False)]
)
def test_it_is_shown_and_written_where_the_answer_is_yes(tmp_path, capsys, answer, written):
    ants_bees(tmp_path / "data")
    path, asked = tmp_path / "a.yaml", []

    def ask(question):
        asked.append(question)
        return answer

    said = write_config("ants", str(tmp_path / "data"), str(path), Budget(), MACHINE, ask)
    shown = capsys.readouterr().out
    assert asked == [f"Write this to {path}? [Y/n] "] and "run: ants" in shown and path.exists() == written
    if written:
        assert path.read_text() + "\n" == shown and check_yaml_file(path)["run"] == "ants"
        forecast = "Quality `good`: forecast 1 min 30 s on 3 cores, 1.5 GB of disk."
        assert said == f"{forecast}\n{path} is written. Look it over, then: make evaluate CONFIG={path}"
        assert f"# {forecast}" in shown
    else:
        assert said == "Nothing was written."


def test_a_job_with_images_to_predict_ends_at_the_submission(tmp_path, capsys):
    write_images(tmp_path / "data", *(f"train/{kind}/{n}.png" for kind in "ab" for n in range(3)), "test/1.png")
    said = write_config("job", str(tmp_path / "data"), str(tmp_path / "a.yaml"), Budget(), MACHINE)
    assert "make submission CONFIG=" in said and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["", "-a", "a/b", "cache", "Cache", "a" * 101, "a b"])
def test_a_name_that_is_not_one_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="NAME="):
        write_config(name, str(tmp_path), str(tmp_path / "a.yaml"), Budget(), MACHINE)


@pytest.mark.parametrize("data", ["", "/there/is/no/such"])
def test_data_that_are_not_there_are_refused(tmp_path, data):
    with pytest.raises(UserError, match=f"DATA={data}: no such folder"):
        write_config("a", data, str(tmp_path / "a.yaml"), Budget(), MACHINE)


def test_without_a_terminal_it_asks_nothing_and_overwrites_nothing(tmp_path):
    ants_bees(tmp_path / "data")
    path = tmp_path / "a.yaml"
    command = [sys.executable, str(SCRIPT), "ants", str(tmp_path / "data"), str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and path.exists(), done.stderr
    before = path.read_bytes()
    again = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already" in again.stderr and path.read_bytes() == before
    usage = subprocess.run(command[:2], stdin=subprocess.DEVNULL, cwd=tmp_path, capture_output=True, text=True)
    assert usage.returncode == 1 and "new_config.py NAME DATA [FILE" in usage.stderr


@pytest.mark.parametrize(
    ("quality", "hours", "said"),
    [
        ("quick", "2", "give one of them"),
        ("fast", "", "say one of quick, good, best"),
        ("", "-1", "above 0"),
        ("", "nan", "above 0"),
        ("", "two", "above 0"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_in_one_line_before_anything_is_listed(tmp_path, quality, hours, said):
    command = [sys.executable, str(SCRIPT), "a", str(tmp_path / "not there"), "", quality, hours]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no such folder" not in done.stderr


@pytest.mark.parametrize("number", [4, 600, 2500])
def test_what_is_written_is_the_recipe_that_was_chosen(tmp_path, number):
    """An ordinary config: read back, it is the rung, whatever the size of the data."""
    ants_bees(tmp_path / "data")
    layout = infer(tmp_path / "data")._replace(labelled=number, size=400, data={"source": "folders", "root": "data"})
    rungs = ladder(job_of(layout, gpu=True))
    for position, rung in enumerate(rungs):
        text, said = new_text("a", layout, Budget(hours=1), Machine(True, _costs_of(rungs, position)))
        (tmp_path / "a.yaml").write_text(text)
        config = resolve(check_yaml_file(tmp_path / "a.yaml"), "a.yaml")
        assert config["model"]["arch"] == rung.arch and config["split"]["use"] == rung.folds
        assert config["tta"]["views"] == rung.views and f"`{rung.name}`" in said and f"# {said}" in text
        written = [{key: stage[key] for key in own} for stage, own in zip(config["recipe"], rung.stages, strict=True)]
        assert written == rung.stages


def _costs_of(rungs, last):
    """A forecast by which the rungs up to ``last`` fit into an hour."""
    asked = iter(range(len(rungs)))
    return lambda config, found: Cost(60.0 if next(asked) <= last else 7200.0, 1.0, "here")


def test_hours_too_few_for_anything_take_the_cheapest_recipe_and_say_so(tmp_path):
    ants_bees(tmp_path / "data")
    text, said = new_text("a", infer(tmp_path / "data"), Budget(hours=0.01), MACHINE)
    assert said.startswith("Not even the cheapest recipe, `quick`, fits into 0.01 hours: forecast 1 min 30 s")
    assert f"# {said}" in text and "train: all" not in text
