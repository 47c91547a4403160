"""Networks side by side: figures by numpy's own arithmetic, the order, and the line of the config that takes the best."""

import numpy as np
import pytest
import yaml

from eightfold.config.resolve import resolve
from eightfold.predict.metrics import Judge
from eightfold.review import trunk_race


def racer(name, parts, seconds=10.0):
    return {
        "name": name,
        "parts": parts,
        "figures": {"accuracy": 0.5, "images": 4},
        "seconds": seconds,
        "bytes": 9e6,
        "width": 8,
    }


RACERS = [
    racer("slow", [["resnet34", "DEFAULT"]], 100.0),
    racer("best", [["resnet18", "a b.pth"], ["timm/test_vit", "package:some-weights"]]),
]
LOSSES = np.array([[0.4, 0.1, 0.9, 0.2], [0.3, 0.2, 0.5, 0.2]])


def test_the_best_is_first_and_the_others_differences_are_paired():
    rows = trunk_race.table(RACERS, LOSSES)
    assert list(rows["network"]) == ["best", "slow"]
    assert rows["log_loss"][1] == pytest.approx(0.4) and rows["behind"][0] == 0
    differences = LOSSES[0] - LOSSES[1]
    assert rows["behind"][1] == pytest.approx(differences.mean())
    assert rows["behind_se"][1] == pytest.approx(differences.std(ddof=1) / 2)
    assert rows["log_loss_se"][1] == pytest.approx(LOSSES[0].std(ddof=1) / 2)


def test_the_config_s_line_is_one_that_the_config_takes():
    for parts in (RACERS[0]["parts"], RACERS[1]["parts"], [["resnet18", "../w/x.pth"]], [["vgg11", "c:\\w {1}.pth"]]):
        model = resolve(yaml.safe_load(trunk_race.config_line(parts)))["model"]
        archs, weights = ([model[key]] if len(parts) == 1 else model[key] for key in ("arch", "weights"))
        assert [list(pair) for pair in zip(archs, weights, strict=True)] == parts


def test_the_lines_for_a_terminal_and_the_page_name_every_network_once_and_the_best_one_s_line():
    rows = trunk_race.table(RACERS, LOSSES)
    report = trunk_race.text(rows, 4, 224)
    lines = report.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["best", "slow"] and lines[-1].endswith(rows["config"][0])
    assert len({len(line.rstrip()) for line in lines[1:4]}) == 1  # columns stand under one another
    page = trunk_race.page("<run>", rows, 4, 224)
    assert "&lt;run&gt;" in page and page.count('<th scope="row">') == 2 and "package:some-weights" in page


def test_log_loss_of_each_image_is_that_of_its_logits():
    logits, targets = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0])
    figures, losses = trunk_race.judge_racer(logits, targets, Judge("log_loss", "single", ["a", "b"], 1))
    assert losses == pytest.approx(np.log1p(np.exp([-2.0, 1.0])))
    assert figures["log_loss"] == pytest.approx(losses.mean()) and figures["accuracy"] == 0.5
