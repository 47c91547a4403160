"""The learning rate of a stage: a sweep with its curve and three suggestions, trials of a head's rates, and the one used."""

from pathlib import Path

from eightfold.config import schedules
from eightfold.core.devices import device
from eightfold.core.files import write_json
from eightfold.core.randomness import seed_for
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset, stratify
from eightfold.net import nets
from eightfold.train import lr_finder, stages
from eightfold.train.setting import How

with job(snakemake.log[0], snakemake.threads):
    settings = snakemake.params.settings
    finder, stage, seed, batch_size = settings["lr_find"], settings["stage"], settings["seed"], settings["batch_size"]
    optimizer, losses = stage["optimizer"], None
    with device(settings["device"]["kind"], settings["device"]["precision"]) as here:
        setting = stages.open_setting(snakemake.input, settings, snakemake.wildcards.fold, here)
        how = How(batch_size, seed, here, settings.get("bn_freeze", False))
        batches = schedules.batches_of(len(setting.train_rows), batch_size)
        steps, swept = schedules.finder_steps(finder["steps"], batches, stage), ([], [])
        if steps:
            swept = lr_finder.sweep(setting, stage, how, steps, finder["start"], finder["end"])
        if settings["trials"]:
            table, _ = dataset.read_manifest(Path(snakemake.input.manifest).parent)
            units = stratify.units(table, "group")
            splits = lr_finder.inner_splits(setting.targets, setting.train_rows, units, seed)
            # A new head: one that an earlier stage trained has seen the images which are held back here.
            new = nets.head(setting.net[0].num_features // 2, len(setting.classes), seed_for(seed, "head"))
            if splits:
                losses = lr_finder.try_rates(setting._replace(net=new), splits, stage, how)
    found = lr_finder.suggest(*swept, finder["rule"], optimizer)
    if not steps:
        found["message"] = (
            f"the stage makes {batches * schedules.stage_epochs(stage)} steps, too few for a sweep that costs no more than "
            f"the stage; the cautious rate of {optimizer} is taken: {found['lr']:.3g}"
        )
    if losses is not None:
        found |= lr_finder.choose(losses, lr_finder.TRIED[optimizer])
    log.info("%s: %s", stage["name"], found["message"])
    write_json(snakemake.output.found, found)
