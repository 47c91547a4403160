"""Fit one linear stage of the recipe: the files of a trained stage, with the choice of its strength in stage.json."""

import torch

from eightfold.core.devices import device
from eightfold.core.files import identity_of
from eightfold.core.runtime import job
from eightfold.train import linear_stage, stage_record, stages
from eightfold.train.stage_files import StageResult, write_stage

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    fold, stage = snakemake.wildcards.fold, settings["stage"]
    identity = identity_of(settings, snakemake.params.code, *stages.identity_inputs(given))
    if given.trunk_identity:
        stages.forget_resume(given.trunk_identity)
    setting = linear_stage.open_linear(given, settings, fold)
    with device(**settings["device"]) as here:
        fitted = linear_stage.fit_layer(setting, stage["name"], here.device)
    answers = linear_stage.judge_layer(setting, fitted.layer)
    judged = stage_record.describe_judged(answers, setting.targets[setting.valid_rows])
    linear_stage.log_fit(fitted, judged)

    exact = here._replace(dtype=torch.float32)  # whatever the device is fast at, the fit is of float32 or better
    record = stage_record.describe_stage(stage, fold, exact, setting.train_rows, setting.valid_rows)
    record |= judged | linear_stage.describe_fit(setting, fitted.path) | {"train_loss": judged["train_loss_eval"]}
    valid = {"rows": torch.tensor(setting.valid_rows), "logits": torch.tensor(answers.valid_logits)}
    epochs = [linear_stage.describe_epoch(judged, fitted.seconds)]
    write_stage(made, StageResult(fitted.layer, valid, {}, epochs, [], record), identity)
