"""The first config of a job: what `guess` infers of a folder, shown to a person and written where they agree."""

import re
from collections.abc import Callable
from pathlib import Path

from eightfold.config.guess import config_text, infer
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError, write_text


def write_config(name: str, data: str, file: str | None = None, ask: Callable[[str], str] | None = None) -> str:
    """Write a config for the folder or table ``data`` to ``file`` (configs/<name>.yaml), and return what to say of it.

    ask: takes a question and returns the answer; the config is then printed first, and written where the answer is yes. None
    asks nothing. Raises UserError for a name that is not one, for data that are not there or that nothing fits, and for a
    file that is there already.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or name.lower() == "cache":
        raise UserError(f"NAME={name}: letters, digits, `.`, `_` and `-`, starting with a letter or digit")
    if not data or not Path(data).exists():
        raise UserError(f"DATA={data}: no such folder; say make new NAME={name} DATA=folder")
    path = Path(file or f"configs/{name}.yaml")
    if path.exists():
        raise UserError(f"{path} is there already; delete it, or choose another NAME")
    text = config_text(name, infer(data))
    if ask is not None:
        print(text)
        if ask(f"Write this to {path}? [Y/n] ").strip().lower() not in ("", "y", "yes"):
            return "Nothing was written."
    write_text(path, text)
    resolve(check_yaml_file(path), str(path))
    target = "submission" if "\n  test: " in text else "evaluate"
    return f"{path} is written. Look it over, then: make {target} CONFIG={path}"
