"""What checks a job runs before what costs hours, though no file goes from one to the other. Must not import torch.

An input would give the order too, and more than that. Snakemake plans what has a file as input once the job that makes it is
planned; and where that input is `ancient`, it no longer asks whether its other inputs or params have changed (9.27.1: what lies
below a planned job is left out of that question). So a changed `submission` would train again, or, together with a changed rate,
would leave training out. A resource does neither: what checks takes all of it, what costs hours takes a part, and a priority
lets the former go first. Leans on `workflow.register_resource`, as module gpu_limit does.
"""

ALL = 10_000  # more than there are jobs at a time


def hold_back(workflow) -> None:
    """Let no job with `resources: held=1` run beside one with `held=ALL`, on this machine or a cluster."""
    if "held" not in workflow.global_resources:
        workflow.register_resource("held", ALL)
