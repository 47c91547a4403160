"""Twenty runs with planted trouble: what is submitted is no worse than the best that came before the trouble.

Heads are trained for real on the digits of scikit-learn, as the stages of a recipe are; what answers is chosen on held-out
images, and judged on others that nothing has seen.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from eightfold.core.devices import Device
from eightfold.net import heads, scoring
from eightfold.net.scoring import mean_and_error
from eightfold.predict import ensembles, evaluation, metrics
from eightfold.train import training
from eightfold.train.answers import compute_logits
from eightfold.train.setting import How, Setting

pytestmark = pytest.mark.slow
CPU = Device(torch.device("cpu"), torch.float32)
TRAIN, VALID, TEST = np.arange(300), np.arange(300, 500), np.arange(500, 1797)
GOOD = {"augment": True, "first_view": 1, "cycles": 2, "cycle_len": 4, "cycle_mult": 1}
# What goes wrong in the stage that comes last: (its rate, its options, the share of its labels that are wrong).
TROUBLES = {
    "a rate too high": (1.0, {}, 0.0),
    "a soft divergence": (0.4, {"cycles": 1, "cycle_len": 2, "schedule": "one_cycle"}, 0.0),
    "learning by heart": (0.05, {"augment": False, "cycles": 1, "cycle_len": 40}, 0.2),
    "wrong labels": (0.02, {}, 0.5),
}


@pytest.fixture(scope="module")
def digits():
    images, classes = load_digits(return_X_y=True)
    return torch.from_numpy((images / 8 - 1).astype(np.float32)), classes


def one_run(digits, trouble: str, seed: int, folder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (members, images, classes) and targets after a good stage, a better one, and one in trouble."""
    values, classes = digits
    order = np.random.default_rng(seed).permutation(len(values))
    values, classes = values[order], classes[order]

    def source(rows, view):
        noise = torch.stack(
            [torch.randn(64, generator=torch.Generator().manual_seed(9999 * view + int(r))) for r in rows]
        )
        return values[torch.as_tensor(rows)] + 0.5 * noise * (view > 0)

    net, found = heads.head(64, 10, seed), []
    rate, options, wrong = TROUBLES[trouble]
    lies = classes.copy()
    lost = np.random.default_rng(seed).choice(TRAIN, int(wrong * len(TRAIN)), replace=False)
    lies[lost] = (lies[lost] + 1 + np.random.default_rng(seed + 1).integers(0, 9, len(lost))) % 10
    for name, lr, stage, labels in (
        ("head", 0.01, GOOD, classes),
        ("longer", 0.01, GOOD, classes),
        ("last", rate, GOOD | options, lies),
    ):
        resume = folder / f"{seed}.{name}.safetensors"
        setting = Setting(net, source, labels, TRAIN)
        training.train(setting, {"name": name, **stage}, [lr], How(32, seed, CPU), resume, name)
        found.append(scoring.softmax(compute_logits(net, source, np.arange(len(values)), 0, CPU)))
    return np.stack(found), classes


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_answer_is_no_worse_than_the_best_before_the_trouble(digits, trouble, tmp_path):
    harm, paired = [], []
    for seed in range(5):
        stack, classes = one_run(digits, trouble, seed, tmp_path)
        judge = metrics.Judge("log_loss", "single", list("0123456789"))
        members = ensembles.members_of([(name, "end") for name in ("head", "longer", "last")], 1, [])
        equal = ensembles.Blend(members, ensembles.equal_weights(members), "arithmetic", False)
        blend = evaluation.greedy_blend(stack[:, VALID], classes[VALID], equal, judge)
        losses = [scoring.losses(of[TEST], classes[TEST]) for of in (*stack, blend(stack))]
        best = min(losses[:2], key=np.mean)
        harm.append((losses[2] - best).mean())
        paired.append((losses[3] - best).mean())
        assert paired[-1] <= mean_and_error(best)[1], seed
    assert np.mean(harm) > 0.02, "the trouble does no harm, so this shows nothing"
    assert np.mean(paired) <= 0.005
