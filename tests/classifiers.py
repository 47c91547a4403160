"""Untrained classifiers of torchvision, for the tests of what is made of them."""

import torch
import torchvision

ARCH = "squeezenet1_1"  # small, for the tests of weights


def classifier(arch, seed=0):
    """An untrained torchvision classifier, and nothing drawn from the global random numbers."""
    options = {"init_weights": False, "aux_logits": False} if arch in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.get_model(arch, weights=None, **options).eval()
