"""The digest of a script's code: what changes it and what does not."""

import pytest

from eightfold import provenance
from eightfold.provenance import SCRIPTS, code_digest, code_files

LIBRARY = {
    "train.py": '"""Train."""\nfrom eightfold import model\nfrom eightfold.files import save\nsave(model.net(1))\n',
    "plot.py": "import eightfold.plots\neightfold.plots.draw()\n",
    "late.py": "def go():\n    from eightfold.model import net\n    return net(2)\n",
    "eightfold/__init__.py": "",
    "eightfold/model.py": '"""Nets."""\nfrom eightfold import layers\n\ndef net(x):\n    """A net."""\n    return layers.f(x) + 1\n',
    "eightfold/layers.py": "class L:\n    '''Doc.'''\n\ndef f(x):\n    return x  # as it is\n",
    "eightfold/files.py": "def save(x):\n    print(x)\n",
    "eightfold/plots.py": 'PAGE = "templates/page.html"\n\ndef draw():\n    return open(PAGE)\n',
    "eightfold/templates/page.html": "<html></html>",
}
SCRIPT_NAMES = ["train.py", "plot.py", "late.py"]


@pytest.fixture
def root(tmp_path):
    for name, text in LIBRARY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digests(root):
    provenance._read.cache_clear()  # a Snakefile is parsed by a new process
    return {name: code_digest(name, root) for name in SCRIPT_NAMES}


def changed_by(root, name, old, new):
    """The scripts whose digest an edit changes."""
    before, path = digests(root), root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = digests(root)
    return {script for script in SCRIPT_NAMES if before[script] != after[script]}


def test_files_are_found_through_every_kind_of_import(root):
    found = {
        script: {path.relative_to(root).as_posix() for path in code_files(script, root)} for script in SCRIPT_NAMES
    }
    model = {"eightfold/model.py", "eightfold/layers.py"}
    assert found["train.py"] == {"train.py", "eightfold/files.py", *model}
    assert found["late.py"] == {"late.py", *model}
    assert found["plot.py"] == {"plot.py", "eightfold/plots.py", "eightfold/templates/page.html"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("eightfold/layers.py", "# as it is", "# another remark"),
        ("eightfold/layers.py", "def f", "# above\n\n\ndef f"),
        ("eightfold/layers.py", "'''Doc.'''", "'''Another.'''"),
        ("eightfold/model.py", '"""Nets."""', '"""Networks, at length."""'),
        ("eightfold/model.py", '    """A net."""\n', ""),
        ("eightfold/model.py", "return layers.f(x) + 1", "return (\n        layers.f(x) + 1\n    )"),
        ("train.py", '"""Train."""', ""),
    ],
)
def test_remarks_docstrings_and_layout_change_nothing(root, name, old, new):
    assert changed_by(root, name, old, new) == set()


@pytest.mark.parametrize(
    ("name", "old", "new", "scripts"),
    [
        ("eightfold/layers.py", "return x", "return 2 * x", {"train.py", "late.py"}),
        ("eightfold/model.py", "+ 1", "+ 2", {"train.py", "late.py"}),
        ("eightfold/files.py", "print(x)", "print(x, x)", {"train.py"}),
        ("eightfold/plots.py", "return open(PAGE)", "return None", {"plot.py"}),
        ("eightfold/templates/page.html", "<html>", "<html lang=en>", {"plot.py"}),
        ("plot.py", "draw()", "draw() or 1", {"plot.py"}),
        (
            "eightfold/model.py",
            "from eightfold import layers",
            "from eightfold import files, layers",
            {"train.py", "late.py"},
        ),
    ],
)
def test_an_edit_changes_the_scripts_that_reach_it_and_no_other(root, name, old, new, scripts):
    assert changed_by(root, name, old, new) == scripts


def test_modules_that_import_each_other_are_no_trouble(root):
    (root / "eightfold" / "layers.py").write_text("from eightfold import model\n\ndef f(x):\n    return model\n")
    assert digests(root)["train.py"]


def test_the_digest_does_not_depend_on_where_the_checkout_lies(root, tmp_path):
    other = tmp_path / "elsewhere"
    for name, text in LIBRARY.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    assert digests(root) == digests(other)


def test_this_projects_scripts_reach_what_they_should():
    names = {
        script: {path.relative_to(SCRIPTS).as_posix() for path in code_files(script)}
        for script in ("manifest.py", "activations.py", "train.py", "predict.py", "report.py", "pixels.py", "draw.py")
    }
    for script in ("activations.py", "train.py", "predict.py"):
        assert {"eightfold/views.py", "eightfold/nets.py"} <= names[script]
    for script in ("manifest.py", "pixels.py", "draw.py", "report.py"):
        assert not {"eightfold/views.py", "eightfold/nets.py", "eightfold/training.py"} & names[script]
    assert "eightfold/plots.py" not in names["train.py"]  # a new colour must not retrain
    assert any(name.startswith("eightfold/templates/") for name in names["report.py"])
