"""A temporary folder that has no room is replaced, or refused in words."""

import os
import tempfile

import pytest

from eightfold.core.files import UserError
from eightfold.upkeep import temporary


@pytest.fixture
def given(monkeypatch, tmp_path):
    """Folders of which those called full hold nothing; a function that names one as the environment's."""
    whole = tempfile.TemporaryFile

    def limited(dir):
        if "full" in str(dir):
            raise OSError(28, "No space left on device")
        return whole(dir=dir)

    monkeypatch.setattr(temporary.tempfile, "TemporaryFile", limited)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    for name in temporary.NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back whatever happens
    for name in ("full", "full_too", "free"):
        (tmp_path / name).mkdir()

    def name_it(folder: str, variable: str = "TMPDIR") -> None:
        monkeypatch.setenv(variable, folder)

    return name_it


def test_a_folder_with_room_stays(given, tmp_path):
    given(str(tmp_path / "free"))
    assert temporary.choose_folder("own", ("full",)) == "" and os.environ["TMPDIR"] == str(tmp_path / "free")
    assert not os.environ["TMP"] and not (tmp_path / "own").exists()


@pytest.mark.parametrize("variable", temporary.NAMES)
@pytest.mark.parametrize("folder", ["full", "nowhere"])
def test_one_without_is_replaced_wherever_it_is_named(given, tmp_path, folder, variable):
    given(folder, variable)
    said = temporary.choose_folder("own", ("full_too", "free"))
    assert said.startswith(f"{folder}: no room") and "free is used instead" in said
    assert {os.environ[name] for name in temporary.NAMES} == {str(tmp_path / "free")} == {tempfile.gettempdir()}


def test_without_any_other_the_folder_of_the_run_is_taken(given, tmp_path):
    assert "own is used instead" in temporary.choose_folder("own", ("full", "full_too"))
    assert tempfile.gettempdir() == str(tmp_path / "own")


def test_where_none_has_room_it_says_so(given):
    with pytest.raises(UserError, match=r"full, full_own: none has room .* set TMPDIR"):
        temporary.choose_folder("full_own", ("full",))
