"""A throw-away Slurm on this machine: several nodes, GPUs that are copies of /dev/null, no systemd, no accounting.

    python tests/slurm/cluster.py up FOLDER       then: . FOLDER/env.sh; sinfo
    python tests/slurm/cluster.py down FOLDER

Needs Debian's slurm-wlm, slurm-wlm-basic-plugins and munge. All of it lives in FOLDER, but for one marked line in
/etc/hosts (node names must resolve for processes that look for each other), which `down` takes out again.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NODES, GPUS, CPUS, MEM_MB = 2, 2, 16, 128_000
MARK = "# brainpretrain test cluster"
HOSTS = Path("/etc/hosts")
TOOLS = ("srun", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
COMMANDS = ("slurmctld", "slurmd", "munged", *TOOLS)

# Pre-emption is by partition: `preempt` gives way to `gpu` after a grace time. MinJobAge keeps ended jobs for the tests to count.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType={proctrack}
TaskPlugin={task}
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=500000,bf_interval=5,default_queue_depth=2000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=7200
MaxJobCount=20000
FirstJobId={job}
KillWait=20
CompleteWait=0
InactiveLimit=0
SlurmdTimeout=10
AccountingStorageType=accounting_storage/none
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory={mem} Gres=gpu:h100:{gpus} State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=1-0 DefaultTime=10 PriorityTier=10
PartitionName=gpu Nodes=ALL MaxTime=1-0 DefaultTime=10 PriorityTier=10
PartitionName=preempt Nodes=ALL MaxTime=1-0 DefaultTime=10 PriorityTier=1 GraceTime=15
"""

CGROUP = """
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace={ram}
ConstrainCores=no
ConstrainDevices=no
"""


def missing() -> list[str]:
    """Commands of Slurm that are not installed."""
    return [command for command in COMMANDS if not shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]


@dataclass
class Cluster:
    folder: Path
    port: int = 20000 + os.getpid() % 4000 * 10  # several clusters may run beside each other

    @property
    def environment(self) -> dict[str, str]:
        """What a shell of a user of the cluster has."""
        return {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": f"{self.folder}/bin{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command: str) -> str:
        """Output of a command of Slurm."""
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self) -> None:
        """Starts munged, slurmctld and a slurmd per node; returns when all nodes are idle.

        Raises:
            RuntimeError: a daemon does not start, or a node does not come up within a minute; the message has the logs.
        """
        for name in ("munge/sock", "state", "spool", "log", "run", "gpu", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._munge()
        self._configure()
        self._name_nodes(True)
        self._start("slurmctld", "-i", "-c", "-f", f"{self.folder}/slurm.conf")
        for node in range(1, NODES + 1):
            (self.folder / f"spool/n{node}").mkdir(exist_ok=True)
            self.start_node(f"n{node}")
        for _ in range(120):
            if self._idle_nodes() == NODES:
                return
            time.sleep(0.5)
        raise RuntimeError(f"the nodes of Slurm do not come up:\n{self._logs()}")

    def start_node(self, node: str) -> None:
        self._start("slurmd", "-N", node, "-f", f"{self.folder}/slurm.conf")

    def kill_node(self, node: str, job: str) -> None:
        """As if the power of a node were cut that runs one job; the job's own processes the caller kills."""
        listed = subprocess.run(["ps", "axo", "pid,args"], capture_output=True, text=True).stdout.splitlines()
        steps = [int(line.split()[0]) for line in listed if f"slurmstepd: [{job}." in line]
        for pid in [int((self.folder / f"run/slurmd.{node}.pid").read_text()), *steps]:
            os.kill(pid, signal.SIGKILL)

    def down(self) -> None:
        """Ends all jobs and daemons, by their process ids only, and takes the node names out of /etc/hosts."""
        subprocess.run(["scancel", "--user", getpass.getuser()], env=os.environ | self.environment, capture_output=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._jobs_left():
            time.sleep(0.5)
        for pattern in ("slurmd.*.pid", "slurmctld.pid", "munged.pid"):
            for file in (self.folder / "run").glob(pattern):
                _end(int(file.read_text() or 0))
        self._name_nodes(False)

    def _munge(self) -> None:
        """A key and a socket of our own, so that no munge of the system is needed or disturbed."""
        key = self.folder / "munge" / "munge.key"
        if not key.exists():
            key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        (self.folder / "munge").chmod(0o755)
        options = {
            "key-file": key,
            "socket": self.folder / "munge/sock/socket",
            "pid-file": self.folder / "run/munged.pid",
            "log-file": self.folder / "log/munged.log",
            "seed-file": self.folder / "munge/seed",
        }
        self._start("munged", "--force", *(f"--{name}={value}" for name, value in options.items()))

    def _configure(self) -> None:
        confined = all(os.access(f"/sys/fs/cgroup/{name}/cgroup.procs", os.W_OK) for name in ("freezer", "memory"))
        text = CONF.format(
            folder=self.folder,
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            port=self.port,
            job=self.port * 100,  # the kernel's groups of processes are named by job: two clusters must not share a number
            first=self.port + 1,
            last=self.port + NODES,
            nodes=NODES,
            gpus=GPUS,
            cpus=CPUS,
            mem=MEM_MB,
            proctrack="proctrack/cgroup" if confined else "proctrack/linuxproc",
            task="task/cgroup" if confined else "task/none",
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text(CGROUP.format(ram="yes" if confined else "no"))
        devices = [self._gpu(self.folder / f"gpu/nvidia{number}") for number in range(GPUS)]
        lines = [f"NodeName=n[1-{NODES}] Name=gpu Type=h100 File={device}\n" for device in devices]
        (self.folder / "gres.conf").write_text("".join(lines))
        (self.folder / "env.sh").write_text("".join(f'export {name}="{value}"\n' for name, value in self.environment.items()))
        for tool in TOOLS:  # the plugin's job step drops SLURM_CONF, which points at no place that Slurm looks at by itself
            wrapper = self.folder / "bin" / tool
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which(tool)} "$@"\n')
            wrapper.chmod(0o755)

    @staticmethod
    def _gpu(path: Path) -> Path:
        if not path.exists():
            try:
                os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                path.touch()
        return path

    def _name_nodes(self, present: bool) -> None:
        if os.access(HOSTS, os.W_OK):
            mark = f"{MARK} {self.folder}"
            lines = [line for line in HOSTS.read_text().splitlines() if not line.endswith(mark)]
            names = " ".join(f"n{node}" for node in range(1, NODES + 1))
            HOSTS.write_text("\n".join([*lines, *([f"127.0.0.1 {names} {mark}"] if present else [])]) + "\n")

    def _start(self, *command: str) -> None:
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        done = subprocess.run([str(program), *command[1:]], env=os.environ | self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command[0]} does not start: {done.stdout}{done.stderr}\n{self._logs()}")

    def _idle_nodes(self) -> int:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "cpu", "-t", "idle", "-o", "%N"],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
        )
        return len(done.stdout.split())

    def _jobs_left(self) -> bool:
        done = subprocess.run(["squeue", "-h"], env=os.environ | self.environment, capture_output=True, text=True)
        return bool(done.stdout.strip())

    def _logs(self) -> str:
        return "\n".join(f"{file}:\n{file.read_text()[-2000:]}" for file in sorted((self.folder / "log").glob("*.log")))


def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL to what is still there after ten seconds."""
    for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 2)):
        try:
            os.kill(pid, number)
            for _ in range(patience_s * 5):
                time.sleep(0.2)
                os.kill(pid, 0)
        except ProcessLookupError:
            return


if __name__ == "__main__":
    verb, folder = sys.argv[1:]
    getattr(Cluster(Path(folder).absolute()), verb)()
