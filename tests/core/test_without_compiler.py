"""torch's compiler, a private part of torch, is not imported; and what torch does without it is what it does with it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from eightfold.core.provenance import SCRIPTS

UPGRADED = (
    "This private part of torch, torch._dynamo, or what torch and torchvision ask of it, has changed: see module "
    "scripts/eightfold/core/without_compiler.py. Add an answer to what is asked now, or remove the module, at the cost that it states."
)
GONE = "\nassert not [name for name in sys.modules if name.startswith('torch._dynamo')]"
TRAINED = """
def trained(kind, **options):
    weight, source = torch.nn.Parameter(torch.ones(7, 5)), torch.Generator().manual_seed(1)
    optimizer = kind([weight], lr=0.1, weight_decay=0.01, **options)
    for _ in range(5):
        weight.grad = torch.randn(weight.shape, generator=source)
        optimizer.step()
    return weight.tolist()
"""


def run(code: str) -> str:
    """What another Python prints, in which nothing has imported the compiler yet."""
    code = f"import sys, torch\nfrom eightfold.core.without_compiler import without_compiler\n{code}"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, f"{UPGRADED}\n{ran.stderr}"
    return ran.stdout


def test_torchvision_does_not_import_it():
    run(f"with without_compiler(): import torchvision.models{GONE}")


def test_tensors_on_the_meta_device_do_not_import_it():
    run(f"with without_compiler(), torch.device('meta'): torch.nn.init.kaiming_normal_(torch.empty(3, 3)){GONE}")


@pytest.mark.parametrize(("kind", "options"), [("SGD", {"momentum": 0.9}), ("AdamW", {})])
def test_optimizers_do_not_import_it_and_take_the_same_steps_to_the_bit(kind, options):
    found = run(f"{TRAINED}with without_compiler(): print(trained(torch.optim.{kind}, **{options})){GONE}")
    here: dict = {"torch": torch}
    exec(TRAINED, here)
    assert json.loads(found) == here["trained"](getattr(torch.optim, kind), **options), UPGRADED


def test_afterwards_it_can_be_imported_as_ever():
    code = "with without_compiler():\n    with without_compiler(): import torchvision.models\n    weight = torch.ones(3, requires_grad=True)\n"
    code += "    optimizer = torch.optim.SGD([weight])\nweight.sum().backward()\noptimizer.zero_grad()\n"
    run(f"{code}assert weight.grad is None and torch._dynamo.__file__ and torch._dynamo.utils.__file__")


def test_what_has_no_answer_is_its_own():
    code = "with without_compiler():\n    import torch._dynamo\n    found = torch._dynamo.reset\n"
    run(f"{code}assert found is sys.modules['torch._dynamo'].reset")
