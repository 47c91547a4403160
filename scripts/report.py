"""The run's report: one self-contained HTML page."""

from eightfold.core.files import write_json, write_text
from eightfold.core.runtime import job, log
from eightfold.review import report


def listed(files) -> list[str]:
    """A named input of a rule as a list, whether the rule gave one path or several."""
    return [files] if isinstance(files, str) else list(files)


with job(snakemake):
    inputs = {name: listed(snakemake.input.get(name, [])) for name in report.INPUTS}
    shown = report.gather(inputs, snakemake.params.settings)
    page = report.render(shown)
    write_text(snakemake.output[0], page)
    write_json(snakemake.output.config, {**snakemake.params.settings, "versions": shown["versions"]})
    log.info("%s: %.1f MB", snakemake.output[0], len(page.encode()) / 1e6)
