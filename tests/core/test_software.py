"""Which versions made what: tables and sentences of it."""

from importlib.metadata import version

from eightfold.core import software

OLD, NEW = {"torch": "2.14.0", "numpy": "2.0"}, {"torch": "2.15.0", "numpy": "2.0"}


def test_versions_are_those_that_are_installed():
    found = software.versions()
    assert (
        found["torch"] == version("torch")
        and found["pillow"] == version("pillow")
        and set(found) <= set(software.COUNTS)
    )


def test_results_are_sorted_by_what_made_them():
    found = software.by_version({"fold 1 whole": NEW, "fold 0 plain": OLD, "fold 0 whole": NEW})
    assert found == {
        "numpy": {"2.0": ["fold 0 plain", "fold 0 whole", "fold 1 whole"]},
        "torch": {"2.14.0": ["fold 0 plain"], "2.15.0": ["fold 0 whole", "fold 1 whole"]},
    }
    assert software.in_words(found) == {
        "numpy": "2.0",
        "torch": "2.14.0: fold 0 plain; 2.15.0: fold 0 whole, fold 1 whole",
    }


def test_only_what_is_mixed_or_not_what_is_here_is_said():
    mixed = software.by_version({"a": OLD, "b": NEW})
    assert software.mixed(mixed) == ["torch 2.14.0: a; 2.15.0: b"]
    same = software.by_version({"a": OLD, "b": OLD})
    assert software.mixed(same) == [] and software.mixed(same, OLD) == []
    assert software.mixed(same, NEW) == ["torch (here is 2.15.0) 2.14.0: a, b"]
    assert software.mixed(same, {"numpy": "2.0"}) == ["torch (here is none) 2.14.0: a, b"]
