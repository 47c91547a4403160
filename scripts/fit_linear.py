"""Fit one linear stage of the recipe: the files of a trained stage, with the choice of its strength in stage.json."""

import pandas as pd
import torch

from eightfold.core import tensors
from eightfold.core.devices import device
from eightfold.core.files import file_digest, identity_of, write_json, write_table
from eightfold.core.runtime import job
from eightfold.train import linear_stage, stage_record, stages

with job(snakemake.log[0], snakemake.threads):
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

    valid = {"rows": torch.tensor(setting.valid_rows), "logits": torch.tensor(answers.valid_logits)}
    tensors.save(made.valid, valid, identity)
    tensors.save(made.checkpoint, stages.checkpoint_tensors(fitted.layer), identity)
    tensors.save(made.snapshots, {}, identity)
    write_table(made.history, pd.DataFrame([linear_stage.describe_epoch(judged, fitted.seconds)]))
    write_table(made.batches, pd.DataFrame(columns=["step", "epoch", "cycle", "lr", "loss", "images"]))
    exact = here._replace(dtype=torch.float32)  # whatever the device is fast at, the fit is of float32 or better
    record = stage_record.describe_stage(stage, fold, exact, setting.train_rows, setting.valid_rows)
    record |= judged | linear_stage.describe_fit(setting, fitted.path)
    record |= {"train_loss": judged["train_loss_eval"], "made_from": identity}
    digests = {"digest": file_digest(made.checkpoint), "snapshots_digest": file_digest(made.snapshots)}
    write_json(made.record, record | digests)
