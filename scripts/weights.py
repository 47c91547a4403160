"""The starting trunk: random, from torchvision, or from a file; as safetensors, with the mean and std it expects."""

from eightfold.core import software, tensors
from eightfold.core.files import file_digest, identity_of, write_json
from eightfold.core.randomness import seed_for
from eightfold.core.runtime import job, log
from eightfold.net import published, starting_weights

with job(snakemake):
    settings = snakemake.params.settings
    seed = seed_for(settings.get("seed", 0), "weights")
    trunk, mean, std = starting_weights.pretrained(settings["arch"], settings["weights"], seed)
    state = {f"trunk.{name}": value for name, value in trunk.state_dict().items()}
    tensors.save(snakemake.output.trunk, state, identity_of(settings, snakemake.params.code))
    identity = {"digest": file_digest(snakemake.output.trunk), "mean": mean, "std": std, "width": trunk.width}
    file = published.published_file(settings["arch"], settings["weights"])
    write_json(snakemake.output.identity, {**settings, **identity, "published": file, "versions": software.versions()})
    log.info("%s, weights %s: %d numbers an image", settings["arch"], settings["weights"], trunk.width)
