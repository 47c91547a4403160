"""`make new`: the first config is shown, written where a person agrees, and holds; nothing that is there is overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_guess import ants_bees, write_images

from eightfold.config.new_config import write_config
from eightfold.config.resolve import check_yaml_file
from eightfold.core.files import UserError

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

    said = write_config("ants", str(tmp_path / "data"), str(path), ask)
    shown = capsys.readouterr().out
    assert asked == [f"Write this to {path}? [Y/n] "] and "run: ants" in shown and path.exists() == written
    if written:
        assert path.read_text() + "\n" == shown and check_yaml_file(path)["run"] == "ants"
        assert said == f"{path} is written. Look it over, then: make evaluate CONFIG={path}"
    else:
        assert said == "Nothing was written."


def test_a_job_with_images_to_predict_ends_at_the_submission(tmp_path, capsys):
    write_images(tmp_path / "data", *(f"train/{kind}/{n}.png" for kind in "ab" for n in range(3)), "test/1.png")
    said = write_config("job", str(tmp_path / "data"), str(tmp_path / "a.yaml"))
    assert "make submission CONFIG=" in said and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["", "-a", "a/b", "cache", "Cache", "a" * 101, "a b"])
def test_a_name_that_is_not_one_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="NAME="):
        write_config(name, str(tmp_path), str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("data", ["", "/there/is/no/such"])
def test_data_that_are_not_there_are_refused(tmp_path, data):
    with pytest.raises(UserError, match=f"DATA={data}: no such folder"):
        write_config("a", data, str(tmp_path / "a.yaml"))


def test_without_a_terminal_it_asks_nothing_and_overwrites_nothing(tmp_path):
    ants_bees(tmp_path / "data")
    path = tmp_path / "a.yaml"
    command = [sys.executable, str(SCRIPT), "ants", str(tmp_path / "data"), str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0 and path.exists(), done.stderr
    before = path.read_bytes()
    again = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already" in again.stderr and path.read_bytes() == before
    usage = subprocess.run(command[:2], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert usage.returncode == 1 and "new_config.py NAME DATA [FILE]" in usage.stderr
