"""The learning rate of a stage: a sweep with its curve and three suggestions, trials of a head's rates, and the one used."""

from pathlib import Path

from eightfold.core.devices import device
from eightfold.core.files import write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset, stratify
from eightfold.train import lr_finder, stages
from eightfold.train.setting import How

with job(snakemake):
    given, settings = snakemake.input, snakemake.params.settings
    stage, units = settings["stage"], None
    if settings["trials"]:
        table, _ = dataset.read_manifest(Path(given.manifest).parent)
        units = stratify.units(table, "group")
    with device(**settings["device"]) as here:
        setting = stages.open_setting(given, settings, snakemake.wildcards.fold, here)
        how = How(settings["batch_size"], settings["seed"], here, settings.get("bn_freeze", False))
        found = lr_finder.find_rate(setting, stage, how, settings["lr_find"], units)
    log.info("%s: %s", stage["name"], found["message"])
    write_json(snakemake.output.found, found)
