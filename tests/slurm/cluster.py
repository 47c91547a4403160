"""A SLURM cluster of several nodes on one machine, for tests: real controller, real node daemons, stand-in GPUs.

    python tests/slurm/cluster.py install      the Debian packages (root)
    python tests/slurm/cluster.py run COMMAND  start a cluster, run COMMAND with it, stop the cluster

Everything of it lies in one temporary folder: configuration, munge key and socket, state, logs; its ports are free ones
asked of the kernel. The programs `sbatch`, `squeue`, ... are reached through wrappers that name its configuration, so
that neither /etc/slurm nor a SLURM that this machine belongs to is read or changed.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
SERVERS = ["munged", "slurmctld", "slurmd"]
CLIENTS = ["sbatch", "squeue", "srun", "scancel", "scontrol", "sinfo"]
STAND_INS = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/console",
]

CONFIG = """\
ClusterName=eightfold-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
# A requeued job waits for the old credential to expire.
AuthInfo=socket={folder}/munge.socket,cred_expire=15
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# A job above its memory is killed, as on a cluster with control groups.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=7200
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=10
OverTimeLimit=0
BatchStartTimeout=60
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
PluginDir={plugins}
PlugStackConfig={folder}/plugstack.conf
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """Why no test cluster can run here."""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def why_not() -> str | None:
    """Why a test cluster cannot run here, or None."""
    if missing := [name for name in [*SERVERS, *CLIENTS] if not _program(name)]:
        return f"no {', '.join(missing)} here; as root: python tests/slurm/cluster.py install"
    if os.environ.get("SLURM_CONF") or os.environ.get("SLURM_JOB_ID") or Path("/etc/slurm/slurm.conf").exists():
        return "this machine belongs to a SLURM of its own (/etc/slurm/slurm.conf, SLURM_CONF or SLURM_JOB_ID)"
    if os.getuid() and not Path("/proc/self/environ").exists():
        return "needs Linux"
    return None


def install() -> None:
    """Have the Debian packages, without a service of theirs started. Raises Unavailable, with the reason."""
    if not (reason := why_not()):
        return
    if not reason.startswith("no "):  # a SLURM of this machine's own
        raise Unavailable(reason)
    if os.getuid() or not shutil.which("apt-get"):
        raise Unavailable(f"{reason} (needs apt-get: {' '.join(PACKAGES)})")
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "text": True}
    forbid = Path("/usr/sbin/policy-rc.d")  # asked by the packages' scripts before they start a service
    ours = not forbid.exists()
    try:
        if ours:
            forbid.write_text("#!/bin/sh\nexit 101\n")
            forbid.chmod(0o755)
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "-o", "DPkg::Lock::Timeout=300", *words], check=True, timeout=600, **quiet)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(error.cmd)} did not end in {error.timeout:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{' '.join(error.cmd)} failed: {error.stderr[-1000:]}") from error
    finally:
        if ours:
            forbid.unlink(missing_ok=True)
    if reason := why_not():
        raise Unavailable(reason)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _processes() -> dict[int, tuple[int, bytes]]:
    """Parent and environment of every process that can be looked at."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = parent, (path / "environ").read_bytes()
    return found


class Cluster:
    """Controller and nodes n1, n2, ... ``env`` is the environment in which programs reach them."""

    def __init__(self, nodes: int = 2, cpus: int = 2, gpus: int = 1, memory_mb: int = 64000):
        if reason := why_not():
            raise Unavailable(reason)
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-test-"))
        self.nodes = [f"n{i}" for i in range(1, nodes + 1)]
        self.daemons: dict[str, subprocess.Popen] = {}
        host, (port, *ports) = socket.gethostname().partition(".")[0], _free_ports(1 + nodes)
        plugins = next(Path("/usr/lib").glob("*/slurm*/auth_munge.so")).parent
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        config = CONFIG.format(folder=self.folder, host=host, user=user, port=port, plugins=plugins)
        devices = iter(STAND_INS)
        gres = ""
        for node, node_port in zip(self.nodes, ports, strict=True):
            config += (
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} "
                f"CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}\n"
            )
            gres += "".join(f"NodeName={node} Name=gpu File={next(devices)}\n" for _ in range(gpus))
            (self.folder / f"spool.{node}").mkdir()
        (self.folder / "slurm.conf").write_text(config)
        (self.folder / "gres.conf").write_text(gres)
        (self.folder / "plugstack.conf").touch()
        (self.folder / "state").mkdir()
        (self.folder / "bin").mkdir()
        for name in CLIENTS:
            wrapper = self.folder / "bin" / name
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {_program(name)} "$@"\n')
            wrapper.chmod(0o755)
        self.env = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    # ---- the daemons

    def _start(self, name: str, *command: str) -> None:
        env = {**self.env, "SLURM_CONF": f"{self.folder}/slurm.conf", "SLURM_TEST_DAEMON": f"{self.folder}/{name}"}
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                [_program(command[0]), *command[1:]], env=env, stdout=out, stderr=out, start_new_session=True
            )

    def start(self) -> None:
        """Start the daemons and wait until every node is idle. Raises Unavailable, with the logs, if one is not in 30 s."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in files.items()]
        # The temporary folder's parent is writable for all, which munged refuses without --force; it is sticky.
        self._start("munged", "munged", "--foreground", "--force", *options)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self._wait(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "the nodes")

    def _wait(self, ready, what: str, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                logs = [
                    f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in self.folder.glob("*.log")
                ]
                raise Unavailable(f"{what} of the test cluster did not come up in {seconds} s\n" + "\n".join(logs))
            time.sleep(0.2)

    def start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-D")

    def stop_controller(self) -> None:
        self.daemons["slurmctld"].terminate()
        self.daemons["slurmctld"].wait(20)

    def start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut would: its daemon and every process of its jobs, without a signal they could act on."""
        marks = f"SLURM_TEST_DAEMON={self.folder}/{node}\0".encode(), f"SLURMD_NODENAME={node}\0".encode()
        own = str(self.folder).encode()
        processes = _processes()
        doomed = {pid for pid, (_, env) in processes.items() if own in env and any(mark in env for mark in marks)}
        while more := {pid for pid, (parent, _) in processes.items() if parent in doomed} - doomed:
            doomed |= more
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemons.pop(node).wait(20)

    def stop(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", "--state=RUNNING"], env=self.env, capture_output=True, timeout=10)
            subprocess.run(["scancel", "--state=PENDING"], env=self.env, capture_output=True, timeout=10)
        for node in [name for name in self.daemons if name in self.nodes]:
            self.kill_node(node)
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
                continue
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- what it says

    def call(self, *command: str) -> str:
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True, timeout=120).stdout

    def states(self) -> dict[str, str]:
        """State of every node: idle, mixed, allocated, down, ..."""
        try:
            lines = self.call("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        except subprocess.SubprocessError:
            return {}
        return dict(line.split() for line in lines)

    def jobs(self) -> list[dict[str, str]]:
        """Every job that the controller remembers: what `scontrol show job` tells of it."""
        text = self.call("scontrol", "--details", "--oneliner", "show", "job")
        rows = [dict(part.partition("=")[::2] for part in line.split() if "=" in part) for line in text.splitlines()]
        return [row for row in rows if "JobId" in row]


@contextlib.contextmanager
def cluster(**settings) -> Iterator[Cluster]:
    """A running test cluster, gone when the block ends."""
    made = Cluster(**settings)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def main(words: list[str]) -> int:
    try:
        if words == ["install"]:
            install()
            return 0
        if words[:1] == ["run"] and len(words) > 1:
            with cluster() as made:
                return subprocess.run(words[1:], env=made.env).returncode
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
