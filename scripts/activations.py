"""Activations of the frozen trunk: every image's pooled output in a range of views."""

from pathlib import Path

from eightfold.core import shards, software
from eightfold.core.devices import precision_of
from eightfold.core.files import file_digest, identity_of, write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import activations, activations_needed, dataset

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    fold, part = (getattr(snakemake.wildcards, name, None) for name in ("fold", "part"))
    table, _ = dataset.read_manifest(Path(given.manifest).parent)
    rows = activations_needed.choose_rows(settings["rows"], table, getattr(given, "folds", None), fold)
    rows = shards.rows_of(rows, part)

    # The range of views is no part of the identity: see activations_needed.read_earlier.
    what = {key: value for key, value in settings.items() if key not in ("first", "last")}
    described = [given.manifest_identity, given.pixels, given.weights_identity, given.trunk_identity]
    identity = identity_of(what, snakemake.params.code, *described)
    wanted = range(settings["first"], settings["last"] + 1)
    if parts := getattr(given, "parts", []):
        precision = shards.one_format(given.parts_identities)
        found = activations.join(parts, rows, identity)
    else:
        precision = precision_of(**settings["device"])
        found = activations_needed.read_earlier(made.activations, wanted, identity, precision)
    message = "%d images, %s px, views %s; in earlier files: %s"
    log.info(message, len(rows), settings["size"], list(wanted), sorted(found))
    missing = [view for view in wanted if view not in found]
    with activations_needed.compute_missing(given, settings, rows, missing) as computed:
        views = found | computed
        activations.write(made.activations, rows, {view: views[view] for view in wanted}, identity)
    record = {"digest": file_digest(made.activations), "made_from": identity, "images": len(rows)}
    write_json(made.identity, record | {"precision": precision, "versions": software.versions()})
