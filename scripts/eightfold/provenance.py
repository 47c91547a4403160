"""What a rule's result depends on besides its inputs: the meaning of its code. Light: the Snakefile imports it."""

import ast
import functools
import hashlib
import re
from pathlib import Path

# Logs, bars, locks and signals: around every job, in the result of none. An edited message must not retrain.
_AROUND = {"runtime.py"}

SCRIPTS = Path(__file__).resolve().parent.parent


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node):
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


def _imported_files(tree: ast.AST, root: Path) -> set[Path]:
    """The modules below ``root`` that a syntax tree imports, whether at its top or inside a function."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    paths = (root.joinpath(*name.split(".")).with_suffix(".py") for name in names)
    return {path for path in paths if path.is_file()}


def _named_files(tree: ast.AST, folder: Path) -> set[Path]:
    """Files that a module names by a text such as "templates/report.html", relative to its own folder."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    relative = (text for text in texts if re.fullmatch(r"\w+/[\w./-]+\.\w+", text) and ".." not in text)
    return {folder / text for text in relative if (folder / text).is_file()}


@functools.cache
def _read(path: Path, root: Path) -> tuple[str, frozenset[Path]]:
    if path.suffix != ".py":
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), frozenset()
    tree = ast.parse(path.read_bytes(), filename=str(path))
    uses = _imported_files(tree, root) | _named_files(tree, path.parent)
    meaning = ast.dump(_WithoutDocstrings().visit(tree), include_attributes=False)
    return hashlib.blake2b(meaning.encode(), digest_size=16).hexdigest(), frozenset(uses)


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

    Taken from the syntax trees without docstrings: a comment, a blank line or a touched file changes nothing; an
    edited function changes the digest of the scripts that reach it, and of no other. Snakemake itself tracks a
    script by its mtime and what it imports not at all (snakemake#4003).
    """
    parts = [f"{path.relative_to(root).as_posix()} {_read(path, root)[0]}" for path in code_files(script, root)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
