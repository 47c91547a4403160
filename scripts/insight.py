"""What the network of the first fold looks at, and a map of the images that fold held out."""

from pathlib import Path

from eightfold.core.devices import device
from eightfold.core.files import read_json, write_json, write_text
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.review import alike, insight

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    scale, pixels = read_json(given.weights_identity), Pixels(Path(given.pixels).parent)
    rows = insight.rows_to_show(dataset.read_folds(given.folds), settings)
    net = insight.open_network(given, settings, len(info["classes"]), scale["width"])
    with device(**settings["device"]) as here:
        source = insight.source_of(pixels, settings, scale, here)
        values, logits = insight.features(net, source, rows, here)
    images = insight.answered(rows, logits, table, info)
    write_json(made.map, alike.record(images, values, pixels, settings["seed"]))
    source = insight.source_of(pixels, settings, scale, insight.CPU)
    for name, sheet in insight.cam_sheets(net.to("cpu"), source, images, scale, settings["per_sheet"]).items():
        write_text(made[f"cam_{name}"], sheet)
    log.info("%d images on the map", len(images.ids))
