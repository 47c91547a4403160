"""The model card: what was trained on what, how good it is, and what it is not for."""

from eightfold.core.files import read_json, write_text
from eightfold.core.runtime import job
from eightfold.review.model_card import card

with job(snakemake):
    given = snakemake.input
    names = ("metrics", "manifest_identity", "folds", "tables")
    values = {name: read_json(given[name]) for name in names}
    write_text(snakemake.output.card, card(**values, **snakemake.params.settings))
