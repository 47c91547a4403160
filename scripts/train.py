"""Train one stage of the recipe; a killed or stopped run goes on from its resume file."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from eightfold.config import schedules
from eightfold.core import tensors
from eightfold.core.devices import device
from eightfold.core.files import file_digest, identity_of, read_json, write_json, write_table
from eightfold.core.runtime import job, log
from eightfold.net import scoring
from eightfold.net.nets import rate_groups
from eightfold.train import answers, distributed, stages, training
from eightfold.train.setting import How

with job(snakemake.log[0], snakemake.threads):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    stage, lr = settings["stage"], settings["lr"]
    nodes = getattr(snakemake.resources, "nodes", 1)
    distributed.launch(stage["gpus"], nodes, snakemake.threads, settings["device"]["kind"])
    lr_source = "config" if settings["lr_from"] == stage["name"] else f"stage {settings['lr_from']}"
    if lr is None:
        found = read_json(given.lr_find)
        lr, lr_source = found["lr"], f"lr_find of {settings['lr_from']} ({found['rule']})"
        if not (found["tried"] or found["suggestions"][found["rule"]]):
            lr_source = f"lr_find of {settings['lr_from']}, whose sweep suggests none: {found['message']}"
    identity = identity_of([settings, lr], snakemake.params.code, *stages.identity_inputs(given))
    resume = stages.resume_file(made.record, identity)
    if given.head_identity:
        stages.forget_resume(given.head_identity)

    with (
        device(settings["device"]["kind"], settings["device"]["precision"]) as here,
        distributed.joined(here) as ranks,
    ):
        setting = stages.setting_of(given, settings, snakemake.wildcards.fold, here)
        lrs = schedules.group_lrs(lr, stage, len(rate_groups(setting.net, stage)))
        if ranks.writes:
            for warning in stages.warnings_of(stage, read_json(given.weights_identity)["weights"]):
                log.warning("%s", warning)
        log.info("%s: learning rates %s, from %s", stage["name"], [f"{rate:.3g}" for rate in lrs], lr_source)

        def kept(cycle: int) -> Path:
            return resume.with_suffix(f".snapshot{cycle}")

        def snapshot(cycle: int) -> None:
            if settings["snapshots"]:
                tensors.save(kept(cycle), stages.checkpoint_tensors(setting.net), identity)

        how = How(settings["batch_size"], settings["seed"], here, settings.get("bn_freeze", False))
        records = training.train(setting, stage, lrs, how, resume, identity, snapshot, ranks)
        if not ranks.writes:
            raise SystemExit(0)
        held_out, seen = setting.valid_rows, np.empty((0, len(setting.classes)), np.float32)
        if records.valid_logits is not None:
            seen = records.valid_logits
        elif len(held_out):  # weights are averaged, or the run was stopped after its last epoch
            seen = answers.compute_logits(setting.net, setting.source, held_out, 0, here)
        learned, learned_view = np.empty(0), None
        if len(held_out):  # without them nothing can be compared with it
            learned, learned_view = answers.measure_training_losses(setting, stage, how)
    epochs = records.epochs[: records.kept]  # those that the network has seen
    losses = records.valid_losses[: records.kept]
    by_epoch = np.stack(losses) if losses else np.empty((0, len(held_out)), np.float32)
    held = {"rows": torch.tensor(held_out), "logits": torch.tensor(seen), "losses": torch.tensor(by_epoch)}
    tensors.save(made.valid, held, identity)
    tensors.save(made.checkpoint, stages.checkpoint_tensors(setting.net), identity)
    cycles = range(1, stage["cycles"] + 1) if settings["snapshots"] else []
    saved = {f"snapshot{c}.{name}": value for c in cycles for name, value in tensors.load(kept(c), identity).items()}
    tensors.save(made.snapshots, saved, identity)
    write_table(made.history, pd.DataFrame(records.epochs))
    write_table(made.batches, pd.DataFrame(records.batches))
    last = epochs[-1]
    figures = {}
    if len(held_out):
        probabilities = scoring.probabilities_of(seen, setting.targets.ndim == 2)
        figures = scoring.figures(probabilities, setting.targets[held_out])
    record = {
        "stage": stage["name"],
        "fold": snakemake.wildcards.fold,
        "size": stage["size"],
        "train": stage["train"],
        "epochs": len(epochs),
        "lr": lrs,
        "lr_source": lr_source,
        "snapshots": len(cycles),
        "snapshots_digest": file_digest(made.snapshots),
        "train_loss": last["train_loss"],
        # As the validation loss is measured: in eval mode, on the view named (0 is the plain one).
        **dict(zip(("train_loss_eval", "train_loss_eval_se"), scoring.mean_and_error(learned), strict=True)),
        "train_images_evaluated": len(learned),
        "train_view_evaluated": learned_view,
        "cycle_ends": list({row["cycle"]: row["epoch"] for row in epochs}.values()),
        # Of a stage that goes on until over-fitting: the loss after each cycle on the images held back, nats.
        "held_back": {"images": len(setting.held_back), "losses": records.best.losses},
        "metrics": figures,
        "precision": here.precision,
        "device": here.device.type,
        "images": {"train": len(setting.train_rows), "valid": len(setting.valid_rows)},
    }
    write_json(made.record, {"digest": file_digest(made.checkpoint), "made_from": identity, **record})
