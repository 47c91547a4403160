"""What a submission has to look like: its format, from the config or read off the sample submission."""

import io
import os
from collections import Counter
from collections.abc import Collection, Sequence
from typing import BinaryIO

import pandas as pd

from eightfold.core.files import UserError
from eightfold.core.ordering import is_number
from eightfold.raw.stores import Store

PER_CLASS = ("probabilities", "zero_one")  # formats with a column for each class; the others have one column of answers
JOINED = ("tags", "top_k")  # formats with several names in a cell
FORMATS = ("probabilities", "positive", "label", "index", "tags", "top_k", "zero_one")
TOP_K = 5


def read_ids(path: str | os.PathLike | BinaryIO) -> pd.DataFrame:
    """A CSV with every cell and column name as text: leading zeros, 20 digits, `nan` and names that are there twice survive.

    A row with fewer cells than the head ends in empty ones; one with more raises UserError, which names the file and the line.
    """
    try:
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error
    return cells[1:].reset_index(drop=True).set_axis(cells.iloc[0].tolist(), axis=1)


def read_sample(info: dict) -> pd.DataFrame | None:
    """The sample submission of a manifest, from an archive too; None where there is none. Raises UserError naming it."""
    if not info["sample_submission"]:
        return None
    inside = os.path.relpath(info["sample_submission"], info["root"])
    content = io.BytesIO(Store(info["root"], info["reading"]).read(inside))
    try:
        return read_ids(content)
    except UserError as error:
        message = str(error).removeprefix(f"{content}: ")
        raise UserError(f"{info['sample_submission']}: {message}; data.sample_submission names it") from error


def infer_format(
    sample: pd.DataFrame | None,
    classes: Sequence[str],
    task: str,
    wanted: str,
    separator: str = " ",
    label_column: str | None = None,
) -> tuple[str, str]:
    """The format of the submission (one of FORMATS), and why.

    Taken from config where it names one, else from the sample's columns and cells. label_column: what the column of labels is
    called in the table of labelled images. Raises UserError when neither decides, or when the sample has not the columns of
    the format that is wanted: for one with a column per class, some or all of the classes and nothing else.
    """
    if sample is None:
        auto = ("probabilities", "no sample submission: an id and a column per class")
        return auto if wanted == "auto" else (wanted, "config")
    columns, known = list(sample.columns[1:]), set(classes)
    extra, missing = [name for name in columns if name not in known], sorted(known - set(columns))
    _check_columns(columns)
    if wanted != "auto":
        if wanted in PER_CLASS and extra:
            raise UserError(_columns_differ(f"submission.format is {wanted}", extra, missing))
        if wanted not in PER_CLASS and len(columns) != 1:
            raise UserError(
                f"sample submission: submission.format is {wanted}, which has one column besides the ids, and the sample "
                f"has {len(columns)}: {columns[:5]}. Set submission.format to auto, or data.sample_submission to the right file"
            )
        return wanted, "config"
    if len(columns) == 1:
        return _one_column(columns[0], sample.iloc[:, 1].tolist(), classes, task, separator, label_column)
    if extra:
        raise UserError(_columns_differ("cannot tell its format", extra, missing))
    some = f" for {len(columns)} of the {len(classes)} classes" if missing else " per class"
    return "probabilities", f"the sample has a column{some}"


def _check_columns(columns: list[str]) -> None:
    """Raise UserError unless there is a column besides the ids, none of them twice."""
    if not columns:
        raise UserError(
            "sample submission: it has no column besides the ids; set data.sample_submission to the competition's sample, "
            "or to null"
        )
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        places = [str(place) for place, name in enumerate(columns, 2) if name == twice[0]]
        raise UserError(
            f"sample submission: columns {' and '.join(places)} are both called {twice[0]!r}; get the competition's own "
            "file, or correct data.sample_submission"
        )


def _one_column(
    name: str, cells: list[str], classes: Sequence[str], task: str, separator: str, label_column: str | None
) -> tuple[str, str]:
    """The format of a sample with one column besides the ids."""
    column, seen, known = f"the sample's one column, {name!r}", set(cells), set(classes)
    of_labels, numbered = name == label_column, all(map(is_number, classes))
    parts = {part for cell in seen for part in ([cell] if cell in known else cell.split(separator))}
    are_shares = _are_numbers(seen, 0, 1)
    if task == "multi":
        if name in known and are_shares and not seen <= known:
            return "positive", f"{column}, is called as one of the classes, and has numbers from 0 to 1"
        return "tags", f"{column}, is for images of several labels"
    several = [cell for cell in cells if cell not in known and len(cell.split(separator)) > 1]
    if several and (parts <= known or (of_labels and numbered and all(map(is_number, parts)))):
        return "top_k", f"{column}, has cells of several class names, such as {several[0]!r}"
    whole = all(cell == "" or _is_whole(cell) for cell in seen)
    grades = of_labels and numbered and whole  # 0 holds the place of a 1 or a 2, say
    if len(classes) == 2 and are_shares and (known == {"0", "1"} or not (seen <= known or grades)):
        return "positive", f"{column}, has numbers from 0 to 1, for a job of two classes"
    if seen <= known:
        return "label", f"{column}, has cells that are classes"
    if name in known and (are_shares or len(classes) == 2):
        return "positive", f"{column}, is called as one of the classes"
    # A cell of each row that is the same number, or empty, holds the place of an answer.
    placeholder = len(seen) == 1 and all(cell == "" or is_number(cell) for cell in seen)
    if (of_labels or (numbered and whole)) and placeholder:
        return "label", f"{column}, has {cells[0]!r} in the place of each answer"
    if grades:
        return "label", f"{column}, is the column of labels, and the classes are numbers themselves"
    if not numbered and all(cell.isdecimal() and int(cell) < len(classes) for cell in seen):
        return "index", f"{column}, has whole numbers below {len(classes)}, and the classes have names"
    strange = next(cell for cell in cells if cell not in known)
    raise UserError(
        f"sample submission: cannot tell its format: {column}, has {strange!r} in row {cells.index(strange) + 1}, which is not "
        f"a class of this job ({', '.join(map(repr, classes[:5]))}, ...). Set submission.format to one of {', '.join(FORMATS)}"
    )


def _columns_differ(why: str, extra: list[str], missing: list[str]) -> str:
    parts = [f"its columns {extra[:5]} are not classes of this job"]
    parts += [f"it lacks columns for the {len(missing)} classes {missing[:5]}"] if missing else []
    return (
        f"sample submission: {why}; {', and '.join(parts)}. Is it the sample of this competition, and data.label right? "
        f"Else set submission.format to one of {', '.join(FORMATS)}"
    )


def _is_whole(cell: str) -> bool:
    return cell.removeprefix("-").isdecimal()


def _are_numbers(cells: Collection[str], low: float, high: float) -> bool:
    numbers = pd.to_numeric(pd.Series(sorted(cells)), errors="coerce")
    return bool(((numbers >= low) & (numbers <= high)).all())


def positive_class(sample: pd.DataFrame | None, classes: Sequence[str], given: str | None) -> str:
    """The class whose probability one column gives: the config's; that of the column's name; the last in order."""
    if given is not None:
        if given not in classes:
            raise UserError(
                f"submission.positive is {given!r}, which is not a class of this job; allowed: {list(classes)[:10]}"
            )
        return given
    named = [] if sample is None else [name for name in sample.columns[1:] if name in classes]
    return named[0] if named else classes[-1]


def answers_per_row(sample: pd.DataFrame | None, classes: Sequence[str], given: int | None, separator: str) -> int:
    """How many names a top-k answer has: the config's number, else as many as the sample's longest cell, else 5."""
    if given is None and sample is not None and sample.shape[1] == 2:
        given = max(len(cell.split(separator)) for cell in sample.iloc[:, 1])
    return min(given or TOP_K, len(classes))


def check_joined(classes: Sequence[str], separator: str) -> None:
    """Raise UserError where a cell of several class names, joined by ``separator``, could not be taken apart again."""
    inside = [name for name in classes if (name + separator).index(separator) < len(name)]
    if inside:
        free = [text for text in " |;,/~" if not any(text in name for name in classes)]
        raise UserError(
            f"submission.separator is {separator!r}, which the class {inside[0]!r} has in its name (as {len(inside)} of "
            f"{len(classes)} classes): the names of an answer could not be told apart. "
            + (f"Set submission.separator to {free[0]!r}, say" if free else "Set submission.separator to another text")
        )
