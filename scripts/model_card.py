"""The model card: what was trained on what, how good it is, and what it is not for."""

from eightfold.core import software
from eightfold.core.files import read_json, write_text
from eightfold.core.runtime import job
from eightfold.review.model_card import card
from eightfold.review.report_stages import made_by

with job(snakemake):
    given = snakemake.input
    names = ("metrics", "manifest_identity", "folds", "tables")
    values = {name: read_json(given[name]) for name in names}
    versions = software.in_words(made_by(given.stages))
    write_text(snakemake.output.card, card(**values, **snakemake.params.settings, versions=versions))
