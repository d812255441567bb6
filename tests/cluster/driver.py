"""Starts and stops the cluster, and puts tests and servers into its network namespace.

One cluster at a time on a machine: kubelet's cgroups and some of its paths are the machine's. A cluster that a killed
test run has left behind is stopped first; one that somebody started by hand is left alone, and said so.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("MDSTORE_CLUSTER_DIR", "/tmp/mdstore-cluster"))
OWNER = FOLDER / "owner"
NAMESPACE_FILE = Path("/run/netns/mdstore-cluster")
PIPELINES = "pipelines"
COMMANDS = ("containerd", "ctr", "runc", "iptables", "conntrack", "ip", "nsenter", "openssl")


def missing() -> str | None:
    """Why no cluster can be started here, or None when it can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    absent = [command for command in COMMANDS if shutil.which(command) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    built = subprocess.run([HERE / "build.sh", "--check"], capture_output=True, text=True, check=False)
    return None if built.returncode == 0 else built.stdout.strip()


@contextmanager
def inside() -> Iterator[None]:
    """Put the calling thread, its sockets and the processes it starts into the cluster's network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet = 0x40000000

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, clone_newnet) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    # os.setns came with Python 3.12. It moves one thread only, so other tests of this process stay where they are.
    with Path("/proc/thread-self/ns/net").open() as outside, NAMESPACE_FILE.open() as namespace:
        enter(namespace.fileno())
        try:
            yield
        finally:
            enter(outside.fileno())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running Kubernetes 1.33 with one node and Argo Workflows watching the namespace `pipelines`."""

    admin_kubeconfig: Path
    """May do everything."""
    writer_kubeconfig: Path
    """May get, list and watch workflows, task results and pods of `pipelines`, and nothing else."""
    logs: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator in the workflows' namespace; returns its output.

        Raises:
            RuntimeError: with what kubectl said, when it failed.
        """
        command = [str(HERE / "kubectl.sh"), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster with nothing in it, wiped at the end.

    Raises:
        RuntimeError: another one is running, or it did not start; with the last lines of output.
    """
    if FOLDER.exists():
        owner = OWNER.read_text() if OWNER.exists() else ""
        if not owner or Path(f"/proc/{owner}").exists():
            raise RuntimeError(f"a cluster is running already; {HERE}/stop.sh ends it")
        stop()
    FOLDER.mkdir(mode=0o700)
    OWNER.write_text(str(os.getpid()))
    try:
        started = subprocess.run([HERE / "start.sh"], capture_output=True, text=True, timeout=180, check=False)
        if started.returncode != 0:
            raise RuntimeError(f"the cluster did not start: {started.stdout[-2000:]}{started.stderr[-2000:]}")
        yield Cluster(
            admin_kubeconfig=FOLDER / "admin.kubeconfig",
            writer_kubeconfig=FOLDER / "writer.kubeconfig",
            logs=FOLDER / "logs",
        )
    finally:
        stop()


def stop() -> None:
    subprocess.run([HERE / "stop.sh"], capture_output=True, timeout=120, check=True)
