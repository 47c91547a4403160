"""How many GPUs the jobs on this machine hold together. This module and `check_first` alone lean on
`workflow.register_resource`, `.nodes` and `.global_resources`, which Snakemake does not document (9.27.1).

The documented way is an option of each command, `--resources gpu=N`, or a profile for each machine. Without either, jobs would
wait for a free GPU with their cores in hand: on 64 cores and one GPU, three jobs with 16 cores each behind a fourth.
"""


def limit_gpus(workflow, devices: int) -> None:
    """Let jobs hold no more than ``devices`` GPUs at once, unless the command or a profile says how many.

    A cluster, known by its number of jobs (`nodes`), counts its own.
    """
    if workflow.nodes is None and "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", devices)
