"""Start a config by looking at the data.

Run by hand: python scripts/new_config.py NAME DATA [FILE]. DATA is a folder or the table of labels in it; FILE is where
the config goes (configs/NAME.yaml). On a terminal it shows the config and asks before it writes; elsewhere it just does.
"""

import re
import sys
from pathlib import Path

from eightfold.config.guess import config_text, infer
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError, write_text


def main(name: str, data: str, file: str | None = None, ask=None) -> str:
    """Write the config and return what to tell. ``ask`` takes a question and returns the answer; None asks nothing."""
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


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        print(main(*sys.argv[1:], ask=input if sys.stdin.isatty() else None))
    except UserError as error:
        sys.exit(f"Error: {error}")
    except (EOFError, KeyboardInterrupt):
        sys.exit("\nNothing was written.")
