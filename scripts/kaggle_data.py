"""A competition's data: downloaded by Kaggle's client, unpacked, and sorted by what they are."""

from pathlib import Path

from eightfold.core.files import file_digest, write_json
from eightfold.core.listing import files_below, listing_digest
from eightfold.core.runtime import job, log
from eightfold.raw import kaggle_client, unpack

with job(snakemake):
    competition = snakemake.params.settings["competition"]
    folder = Path(snakemake.output.identity).parent
    # What a broken download left stays in `download`, which is not a declared output, and is taken up again.
    archive = kaggle_client.download(competition, folder / "download")
    digest = file_digest(archive, "sha256")
    log.info("%s: %.1f MB, sha256 %s", archive.name, archive.stat().st_size / 1e6, digest)
    data = folder / "data"
    unpack.unpack(archive, data)
    for name in unpack.unpack_within(data):
        log.warning("Warning: %s is left as it is: unpack it by hand if it is wanted", data / name)
    archive.unlink()
    files = [size for _, size in files_below(data)]
    record = {"competition": competition, "sha256": digest, "files": len(files), "bytes": sum(files)}
    write_json(snakemake.output.identity, {"digest": listing_digest(data), **record})
    log.info("%d files, %.1f MB: %s", len(files), sum(files) / 1e6, data)
