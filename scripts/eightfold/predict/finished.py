"""The networks of a run that may answer: where they lie, and which share a trunk."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from eightfold.core.files import checked, read_json
from eightfold.net import checkpoint_parts, nets
from eightfold.train import stages


class Network(NamedTuple):
    """A network that may answer, by the files and the prefixes in them ("snapshot1.") that hold its trunk and its head."""

    stage: str
    name: str  # "end", or "cycle2": as the stage ended, or after its second cycle
    size: int  # side of the square that it sees, px
    trunk: str
    trunk_prefix: str
    head: str
    head_prefix: str

    @property
    def key(self) -> str:
        """Its name among the tensors of a file of predictions."""
        return f"{self.stage}.{self.name}"


class Kind(NamedTuple):
    """What all networks of a run have in common."""

    arch: str
    classes: int
    width: int  # of the pooled vector
    seed: int


def find_networks(given, settings: Mapping, wanted: Collection[tuple[str, str]]) -> list[list[Network]]:
    """The wanted networks, (stage, name), of each fold, with the digests of their files and of the starting trunk checked.

    ``given``: a rule's trunk, its weights_identity, and its checkpoints and snapshots, one fold after another. settings:
    candidates, answering and answering_snapshots of the plan. Raises UserError for a damaged file.
    """
    stages_of, snapshots_of = settings["answering"], settings["answering_snapshots"]
    found = []
    for fold in range(len(given.checkpoints) // len(stages_of)):
        checkpoints = given.checkpoints[fold * len(stages_of) : (fold + 1) * len(stages_of)]
        snapshots = given.snapshots[fold * len(snapshots_of) : (fold + 1) * len(snapshots_of)]
        found.append(
            find_in_fold(
                settings["candidates"],
                dict(zip(stages_of, checkpoints, strict=True)),
                dict(zip(snapshots_of, snapshots, strict=True)),
                given.trunk,
                wanted,
            )
        )
    checked(given.trunk, read_json(given.weights_identity))
    return found


def find_in_fold(
    candidates: Sequence[Mapping],
    checkpoints: Mapping[str, str],
    snapshots: Mapping[str, str],
    start: str,
    wanted: Collection[tuple[str, str]],
) -> list[Network]:
    """The wanted networks, (stage, name), of one fold, in the order of ``candidates``, with the digests of their files checked.

    candidates: as `Plan.candidates` has them. checkpoints, snapshots: the file of each stage; a checkpoint's stage.json lies
    beside it. start: the starting trunk, which is not checked here. Raises UserError for a damaged file.
    """
    found = []
    for stage in candidates:
        own, inherited = checkpoints[stage["stage"]], checkpoints.get(stage["trunk"], start)
        for name in stage["networks"]:
            if (stage["stage"], name) not in wanted:
                continue
            file, prefix = (own, "") if name == "end" else (snapshots[stage["stage"]], f"snapshot{name[5:]}.")
            # A head stage's checkpoints hold no trunk: that is the earlier stage's.
            trunk = (file, prefix) if stage["train"] == "all" else (inherited, "")
            found.append(Network(stage["stage"], name, stage["size"], *trunk, file, prefix))
    stage_of = {path: (name, "digest") for name, path in checkpoints.items()}
    stage_of |= {path: (name, "snapshots_digest") for name, path in snapshots.items()}
    for path in sorted({path for network in found for path in (network.trunk, network.head)} - {start}):
        name, key = stage_of[path]
        checked(path, {"digest": read_json(stages.identity_beside(checkpoints[name]))[key]})
    return found


def group_by_trunk(networks: Sequence[Network]) -> list[list[Network]]:
    """The networks in groups that share a trunk and see the same views, so that the trunk passes over each view once."""
    groups: dict[tuple, list[Network]] = {}
    for network in networks:
        groups.setdefault((network.trunk, network.trunk_prefix, network.size), []).append(network)
    return list(groups.values())


def load_trunk_and_heads(group: Sequence[Network], kind: Kind) -> tuple[nn.Module, list[nn.Module]]:
    """The trunk that a group of `group_by_trunk` shares, and the head of each of its networks, in evaluation mode."""
    net = stages.network(kind.arch, kind.classes, kind.width, kind.seed)
    checkpoint_parts.load_part(net.trunk, group[0].trunk, f"{group[0].trunk_prefix}trunk")
    return net.trunk.eval(), [checkpoint_parts.load_head(n.head, f"{n.head_prefix}head").eval() for n in group]


def load_whole(networks: Sequence[Network], kind: Kind) -> Iterator[nets.Net]:
    """One network after another, trunk and head, in evaluation mode."""
    for network in networks:
        trunk, (head,) = load_trunk_and_heads([network], kind)
        yield nets.Net(trunk, head).eval()
