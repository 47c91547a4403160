"""Train one stage of the recipe; a killed or stopped run goes on from its resume file."""

from eightfold.config import schedules
from eightfold.core.devices import device
from eightfold.core.files import identity_of, read_json
from eightfold.core.runtime import job, log
from eightfold.net import nets
from eightfold.train import distributed, stage_record, stages, trained_stage, training
from eightfold.train.setting import How
from eightfold.train.stage_files import StageResult, write_stage

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    stage, fold, nodes = settings["stage"], snakemake.wildcards.fold, getattr(snakemake.resources, "nodes", 1)
    distributed.launch(stage["gpus"], nodes, snakemake.threads, settings["device"]["kind"])
    found = read_json(given.lr_find) if settings["lr"] is None else None
    lr, lr_source = trained_stage.choose_rate(settings, found)
    identity = identity_of([settings, lr], snakemake.params.code, *stages.identity_inputs(given))
    resume = stages.resume_file(made.record, identity)
    if given.head_identity:
        stages.forget_resume(given.head_identity)

    with device(**settings["device"]) as here, distributed.joined(here) as ranks:
        setting = stages.open_setting(given, settings, fold, here)
        how = How(settings["batch_size"], settings["seed"], here, settings.get("bn_freeze", False))
        lrs = schedules.group_lrs(lr, stage, len(nets.rate_groups(setting.net, stage)))
        if ranks.writes:
            for warning in stages.warnings_of(stage, read_json(given.weights_identity)["weights"]):
                log.warning("%s", warning)
        log.info("%s: learning rates %s, from %s", stage["name"], [f"{rate:.3g}" for rate in lrs], lr_source)
        cycles = stage["cycles"] if settings["snapshots"] else 0
        snapshots = trained_stage.Snapshots(resume, identity, setting.net, cycles)
        records = training.train(setting, stage, lrs, how, resume, identity, snapshots.save, ranks)
        if not ranks.writes:
            raise SystemExit(0)
        judged = trained_stage.judge_network(setting, stage, how, records)

    record = stage_record.describe_stage(stage, fold, here, setting.train_rows, setting.valid_rows)
    record |= stage_record.describe_judged(judged, setting.targets[setting.valid_rows])
    record |= trained_stage.describe_training(records, setting.held_back)
    record |= {"lr": lrs, "lr_source": lr_source, "snapshots": cycles}
    valid = trained_stage.collect_valid(setting, records, judged)
    result = StageResult(setting.net, valid, snapshots.load(), records.epochs, records.batches, record)
    write_stage(made, result, identity)
