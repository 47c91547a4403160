"""What a rule's result depends on besides its inputs: the meaning of its code. It must not import torch: the Snakefile imports it.

The digest of syntax trees is our own on purpose: Snakemake tracks a script by its bytes or time and what it imports not at
all, so that a comment would train again and an edited library would not.
"""

import ast
import functools
import hashlib
import re
from pathlib import Path

# Logs, bars, locks, signals and the record of a job: around every job, in the result of none. An edited message must not retrain.
_AROUND = {"runtime.py", "made.py"}

SCRIPTS = Path(__file__).resolve().parents[2]


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _is_message(call: ast.Call) -> bool:
    """Whether what a call is given is a text for people and nothing else: the message of a UserError, or a line of the log."""
    name = call.func
    if isinstance(name, ast.Attribute):
        return name.attr == "UserError" or (isinstance(name.value, ast.Name) and name.value.id == "log")
    return isinstance(name, ast.Name) and name.id == "UserError"


class _Reading:
    """What a syntax tree means and names, in one pass: the Snakefile waits for that of some eighty files."""

    def __init__(self, tree: ast.AST):
        self.meaning: list[str] = []
        self.imported: set[str] = set()
        self.texts: set[str] = set()
        self._message = False  # whether what is read is part of a text for people
        self._read(tree)

    def _read(self, value) -> None:
        if isinstance(value, ast.AST):
            self._read_node(value)
        elif isinstance(value, list):
            self.meaning.append("[")
            for item in value:
                self._read(item)
            self.meaning.append("]")
        else:
            self.meaning.append(repr(value))

    def _read_node(self, node: ast.AST) -> None:
        kind = type(node)
        if self._message and (kind is ast.JoinedStr or (kind is ast.Constant and isinstance(node.value, str))):
            self.meaning.append("a text")
            return
        if kind is ast.Import:
            self.imported.update(alias.name for alias in node.names)
        elif kind is ast.ImportFrom and node.module and node.level == 0:
            self.imported.add(node.module)
            self.imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif kind is ast.Constant and isinstance(node.value, str):
            self.texts.add(node.value)
        self.meaning.append(f"{kind.__name__}(")
        without = kind in _WITH_DOCSTRING and ast.get_docstring(node, clean=False) is not None
        message = kind is ast.Call and _is_message(node)
        for name in node._fields:
            value = getattr(node, name, None)
            value = value[1:] if without and name == "body" else value
            # ctx, loaded or stored, follows from the place. Newer Pythons add fields, which are empty as a rule.
            if name == "ctx" or value == [] or (value is None and kind is not ast.Constant):
                continue
            self.meaning.append(name)
            before, self._message = self._message, self._message or (message and name != "func")
            self._read(value)
            self._message = before
        self.meaning.append(")")


def _uses(reading: _Reading, folder: Path, root: Path) -> frozenset[Path]:
    """The modules below ``root`` that a file imports, at its top or inside a function, and the files it names by a text
    such as "templates/report.html", relative to its own folder."""
    modules = {root.joinpath(*name.split(".")).with_suffix(".py") for name in reading.imported}
    # Python runs the __init__.py of each package on the way.
    modules |= {
        parent / "__init__.py"
        for path in modules
        if path.is_file()
        for parent in path.parents
        if root in parent.parents
    }
    named = (t for t in reading.texts if "/" in t and re.fullmatch(r"\w+/[\w./-]+\.\w+", t) and ".." not in t)
    return frozenset(path for path in (*modules, *(folder / text for text in named)) if path.is_file())


@functools.cache
def _read(path: Path, root: Path) -> tuple[str, frozenset[Path]]:
    if path.suffix != ".py":
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), frozenset()
    reading = _Reading(ast.parse(path.read_bytes(), filename=str(path)))
    meaning = "\n".join(reading.meaning).encode(errors="surrogatepass")
    return hashlib.blake2b(meaning, digest_size=16).hexdigest(), _uses(reading, path.parent, root)


def code_files(script: str, root: Path = SCRIPTS) -> list[Path]:
    """The script and every file of this repository that it uses, transitively; sorted."""
    seen, waiting = set(), [root / script]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_read(path, root)[1])
    return sorted(path for path in seen if path.name not in _AROUND)


def code_digest(script: str, root: Path = SCRIPTS) -> str:
    """Digest of the meaning of a script and of all it imports from this repository.

    Taken from the syntax trees without docstrings, and without the texts of messages and of the log: a comment, a blank
    line, a word in a message or a touched file changes nothing; an edited function changes the digest of the scripts
    that reach it, and of no other. The version of Python changes nothing. Snakemake itself tracks a
    script by its mtime and what it imports not at all (snakemake#4003).
    """
    parts = [f"{path.relative_to(root).as_posix()} {_read(path, root)[0]}" for path in code_files(script, root)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
