"""Seconds and peak memory of every job of a run, and what it waited for, from Snakemake's benchmark files."""

from eightfold.core.files import write_table
from eightfold.core.runtime import job
from eightfold.review import timings

with job(snakemake):
    jobs = timings.table(snakemake.input.benchmarks, snakemake.params.settings["outputs"])
    write_table(snakemake.output.timings, jobs)
