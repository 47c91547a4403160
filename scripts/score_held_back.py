"""Accuracy, log loss and, for two classes, ROC AUC of a submission on the labels that were held back.

Run by hand: python scripts/score_held_back.py results/cache/demo/held_back.csv results/demo/submission.csv
"""

import csv
import math
import sys


def score(truth: dict[str, str], rows: list[dict[str, str]], id_column: str) -> tuple[float, float]:
    """(accuracy, log loss) of a submission, a probability per class and row, against {id: class}.

    Rows are scaled to sum to 1 and probabilities kept above 1e-15, as Kaggle does.
    """
    if sorted(row[id_column] for row in rows) != sorted(truth):
        raise ValueError("the submission's ids are not those of the held-back labels, each once")
    right, loss = 0, 0.0
    for row in rows:
        label = truth[row[id_column]]
        probabilities = {name: float(text) for name, text in row.items() if name != id_column}
        right += max(probabilities, key=probabilities.__getitem__) == label
        loss -= math.log(max(probabilities[label] / sum(probabilities.values()), 1e-15))
    return right / len(rows), loss / len(rows)


def roc_auc(truth: dict[str, str], rows: list[dict[str, str]], id_column: str) -> float | None:
    """The share of pairs, one of each of two classes, that the submission has in the right order; equal ones count half.

    None where there are not two classes, or only one of them was held back.
    """
    names = [name for name in rows[0] if name != id_column]
    if len(names) != 2:
        return None
    values = {row[id_column]: float(row[names[0]]) / (float(row[names[0]]) + float(row[names[1]])) for row in rows}
    first, second = ([value for key, value in values.items() if truth[key] == name] for name in names)
    if not first or not second:
        return None
    return sum((a > b) + (a == b) / 2 for a in first for b in second) / (len(first) * len(second))


def main(truth_path: str, submission_path: str) -> str:
    """One line that says how good the submission is."""
    with open(truth_path, newline="", encoding="utf-8") as file:
        truth = {row["id"]: row["label"] for row in csv.DictReader(file)}
    with open(submission_path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    accuracy, log_loss = score(truth, rows, reader.fieldnames[0])
    area = roc_auc(truth, rows, reader.fieldnames[0])
    figures = f"accuracy {accuracy:.4f}, log loss {log_loss:.4f}" + ("" if area is None else f", ROC AUC {area:.4f}")
    return f"{figures}, {len(rows)} images that the pipeline had no labels of"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(main(*sys.argv[1:]))
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: no such file; run `make submission` or `make solar` first")
    except ValueError as error:
        sys.exit(f"{sys.argv[2]}: {error}")
