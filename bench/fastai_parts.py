"""What the scripts that run fastai share: a learner for our networks and files of weights, and fastai tuned."""

# ruff: noqa: F405
import torch
import torchvision
from fastai.vision.all import *  # noqa: F403 - as its users do


class Bfloat16(Callback):
    """Autocast on the CPU, which fastai's own mixed precision does not do."""

    def before_batch(self):
        self.cast = torch.autocast("cpu", torch.bfloat16)
        self.cast.__enter__()

    def after_pred(self):
        self.cast.__exit__(None, None, None)
        self.learn.pred = to_float(self.pred)


def tune(made, bfloat16: bool) -> None:
    """channels_last, and half precision where the machine computes it."""
    made.model.to(memory_format=torch.channels_last)
    made.add_cb(ChannelsLast())
    if torch.cuda.is_available():
        made.to_fp16()
    elif bfloat16:
        made.add_cb(Bfloat16())


def learner_of(data, arch: str, weights: str):
    """A learner for the network ``arch`` (timm/<name> or torchvision's) with the weights of a file, or `none`."""
    if arch.startswith("timm/"):
        made = vision_learner(data, arch.removeprefix("timm/"), pretrained=False, normalize=False, metrics=accuracy)
        body, prefix = made.model[0].model, ""
    elif arch.startswith("resnet"):
        made = vision_learner(
            data, getattr(torchvision.models, arch), pretrained=False, normalize=False, metrics=accuracy
        )
        body, prefix = made.model[0], ""
    else:  # vision_learner cannot cut a network that fastai does not know; this is what it does besides
        network = create_vision_model(getattr(torchvision.models, arch), data.c, pretrained=False, cut=-1)
        made = Learner(data, network, splitter=default_split, metrics=accuracy)
        body, prefix = made.model[0][0], "features."
    if weights != "none":
        if weights.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, weights_only=True)
        found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        own = body.state_dict()
        body.load_state_dict({name: found[name] for name in own})  # KeyError: not this network's
    return made
