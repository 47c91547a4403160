"""The learning-rate finder of a stage: its curve, three suggestions and the one used."""

from eightfold import lr_finder, schedules, stages
from eightfold.devices import device
from eightfold.files import write_json
from eightfold.nets import Net
from eightfold.runtime import job, log
from eightfold.training import epoch_batches

with job(snakemake.log[0], snakemake.threads):
    settings = snakemake.params.settings
    finder, stage, seed, batch_size = settings["lr_find"], settings["stage"], settings["seed"], settings["batch_size"]
    with device(settings["device"]["kind"], settings["device"]["precision"]) as here:
        setting = stages.setting_of(snakemake.input, settings, snakemake.wildcards.fold, here)
        batches = len(epoch_batches(setting.train_rows, batch_size, seed, stage["name"], 0))
        steps = schedules.finder_steps(finder["steps"], batches, isinstance(setting.net, Net))
        lrs, losses = lr_finder.sweep(
            setting.net,
            setting.source,
            setting.targets,
            setting.train_rows,
            stage,
            steps,
            finder["start"],
            finder["end"],
            batch_size,
            seed,
            here,
            settings.get("bn_freeze", False),
        )
    found = lr_finder.suggest(lrs, losses, finder["rule"])
    log.info("%s: %s", stage["name"], found["message"])
    write_json(snakemake.output.found, found)
