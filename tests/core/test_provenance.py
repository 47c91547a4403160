"""The digest of a script's code: what changes it and what does not."""

import ast
import re
import shutil

import pytest

from eightfold.core import provenance
from eightfold.core.provenance import SCRIPTS, code_digest, code_files

LIBRARY = {
    "train.py": '"""Train."""\nfrom eightfold import model\nfrom eightfold.core.files import save\nsave(model.net(1))\n',
    "plot.py": "import eightfold.plots\neightfold.plots.draw()\n",
    "late.py": "def go():\n    from eightfold.model import net\n    return net(2)\n",
    "eightfold/__init__.py": '"""The library."""\nSET = 1\n',
    "eightfold/core/__init__.py": '"""What all use."""\n',
    "eightfold/model.py": '"""Nets."""\nfrom eightfold import layers\n\ndef net(x):\n    """A net."""\n    return layers.f(x) + 1\n',
    "eightfold/layers.py": "class L:\n    '''Doc.'''\n\ndef f(x):\n    return x  # as it is\n",
    "eightfold/core/files.py": "def save(x):\n"
    "    log.info('kept %s', x)\n    if not x:\n        raise UserError(f'nothing in {x}; ' + listed(x, 'none'))\n    print(x)\n",
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
    model = {"eightfold/__init__.py", "eightfold/model.py", "eightfold/layers.py"}
    assert found["train.py"] == {"train.py", "eightfold/core/__init__.py", "eightfold/core/files.py", *model}
    assert found["late.py"] == {"late.py", *model}
    drawn = {"eightfold/__init__.py", "eightfold/plots.py", "eightfold/templates/page.html"}
    assert found["plot.py"] == {"plot.py", *drawn}


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
        ("eightfold/core/files.py", "'kept %s'", "'%s was kept'"),
        ("eightfold/core/files.py", "f'nothing in {x}; '", "'no rows; '"),
        ("eightfold/core/files.py", "'none'", "'not one'"),
    ],
)
def test_remarks_docstrings_messages_and_layout_change_nothing(root, name, old, new):
    assert changed_by(root, name, old, new) == set()


@pytest.mark.parametrize(
    ("name", "old", "new", "scripts"),
    [
        ("eightfold/layers.py", "return x", "return 2 * x", {"train.py", "late.py"}),
        ("eightfold/model.py", "+ 1", "+ 2", {"train.py", "late.py"}),
        ("eightfold/core/files.py", "print(x)", "print(x, x)", {"train.py"}),
        ("eightfold/core/files.py", "if not x", "if x is None", {"train.py"}),
        ("eightfold/__init__.py", "SET = 1", "SET = 2", {"train.py", "late.py", "plot.py"}),
        ("eightfold/plots.py", "return open(PAGE)", "return None", {"plot.py"}),
        ("eightfold/templates/page.html", "<html>", "<html lang=en>", {"plot.py"}),
        ("plot.py", "draw()", "draw() or 1", {"plot.py"}),
        (
            "eightfold/model.py",
            "from eightfold import layers",
            "from eightfold import layers, plots",
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


def test_a_newer_pythons_empty_fields_change_nothing(root, monkeypatch):
    before = digests(root)
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "type_params_of_another_python"))
    monkeypatch.setattr(ast.FunctionDef, "type_params_of_another_python", [], raising=False)
    assert digests(root) == before


# ---- this project

PACKAGES = [
    "core",
    "config",
    "net",
    "inputs",
    "raw",
    "train",
    "predict",
    "review",
    "upkeep",
]  # each imports from those before it
SCRIPTS_OF_RULES = sorted(path.name for path in SCRIPTS.glob("*.py"))


def reached(script: str) -> set[str]:
    return {path.relative_to(SCRIPTS).as_posix() for path in code_files(script)}


def test_packages_import_downwards_only():
    assert {path.parent.name for path in (SCRIPTS / "eightfold").glob("*/__init__.py")} == set(PACKAGES)
    upwards = []
    for path in (SCRIPTS / "eightfold").glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eightfold."):
                other = node.module.split(".")[1]
                if PACKAGES.index(other) > PACKAGES.index(path.parent.name):
                    upwards.append(f"{path.parent.name}/{path.name} imports {node.module}")
    assert not upwards


@pytest.mark.parametrize("script", ["activations.py", "find_lr.py", "train.py", "fit_linear.py", "predict.py"])
def test_what_computes_reaches_no_maker_of_raw_data_and_no_page(script):
    names = reached(script)
    assert {"eightfold/__init__.py", "eightfold/inputs/dataset.py"} <= names
    assert not [name for name in names if name.startswith(("eightfold/raw/", "eightfold/review/", "eightfold/upkeep/"))]


def test_training_reaches_neither_metrics_nor_predictions():
    for script in ("find_lr.py", "train.py", "fit_linear.py"):
        assert not [name for name in reached(script) if name.startswith("eightfold/predict/")]


def test_an_edit_of_the_loop_fits_no_linear_stage_again_nor_the_other_way_round():
    loop = {f"eightfold/train/{name}.py" for name in ("training", "records", "resume", "trained_stage")}
    fit = {f"eightfold/train/{name}.py" for name in ("linear", "linear_stage")}
    finder = {"eightfold/train/lr_finder.py"}
    assert loop <= reached("train.py") and not reached("train.py") & (fit | finder)
    assert fit <= reached("fit_linear.py") and not reached("fit_linear.py") & (loop | finder)
    assert finder <= reached("find_lr.py") and not reached("find_lr.py") & (loop | fit)


def test_what_learns_depends_on_files_of_activations_and_not_on_which_are_computed():
    needed = "eightfold/inputs/activations_needed.py"
    assert needed in reached("activations.py")
    assert not [name for name in ("find_lr.py", "train.py", "fit_linear.py", "predict.py") if needed in reached(name)]


def test_what_makes_the_data_reaches_no_network():
    for script in ("manifest.py", "folds.py", "pixels.py", "draw.py", "report.py", "write_submission.py"):
        assert not [name for name in reached(script) if name.startswith(("eightfold/net/nets", "eightfold/train/"))]


@pytest.mark.parametrize(("script", "page"), [("report", "report"), ("quick_answer", "quick"), ("compare", "compare")])
def test_a_page_reaches_its_template_and_no_other(script, page):
    templates = [name for name in reached(f"{script}.py") if name.startswith("eightfold/review/templates/")]
    assert templates == [f"eightfold/review/templates/{page}.html"]


def messages(path) -> list[ast.Call]:
    """The calls of a file that make a UserError with a text in it."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "UserError"]
    return [call for call in named if isinstance(call.args[0], ast.JoinedStr | ast.Constant)]


EDITED = sorted(path for path in (SCRIPTS / "eightfold").glob("*/*.py") if messages(path))


def test_a_word_in_any_message_changes_no_digest(tmp_path):
    copy = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    provenance._read.cache_clear()
    before = {script: code_digest(script, copy) for script in SCRIPTS_OF_RULES}
    edits = 0
    for path in EDITED:
        lines = (copy / path.relative_to(SCRIPTS)).read_text(encoding="utf-8").splitlines(keepends=True)
        for call in messages(path):
            text = call.args[0]
            line = lines[text.lineno - 1]
            at = len(line.encode()[: text.col_offset].decode())
            opening = re.match(r"[fr]*(\"\"\"|\"|')", line[at:])
            assert opening, (path, text.lineno, line)
            lines[text.lineno - 1] = line[: at + opening.end()] + "Look: " + line[at + opening.end() :]
            edits += 1
        (copy / path.relative_to(SCRIPTS)).write_text("".join(lines), encoding="utf-8")
    provenance._read.cache_clear()
    assert edits > 150 and {script: code_digest(script, copy) for script in SCRIPTS_OF_RULES} == before
