"""Accuracy and log loss of the demo's submission on the labels that were held back.

Run by hand: python scripts/score_demo.py results/cache/demo/held_back.csv results/demo/submission.csv
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
        chances = {name: float(text) for name, text in row.items() if name != id_column}
        right += max(chances, key=chances.__getitem__) == label
        loss -= math.log(max(chances[label] / sum(chances.values()), 1e-15))
    return right / len(rows), loss / len(rows)


def main(truth_path: str, submission_path: str) -> str:
    """One line that says how good the submission is."""
    with open(truth_path, newline="", encoding="utf-8") as file:
        truth = {row["id"]: row["label"] for row in csv.DictReader(file)}
    with open(submission_path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    accuracy, log_loss = score(truth, rows, reader.fieldnames[0])
    return f"accuracy {accuracy:.4f}, log loss {log_loss:.4f}, {len(rows)} pictures that the pipeline had no labels of"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(main(*sys.argv[1:]))
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: no such file; run `make submission` first")
    except ValueError as error:
        sys.exit(f"{sys.argv[2]}: {error}")
