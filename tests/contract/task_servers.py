"""Real Dask and Ray clusters of one worker node, whose interpreter has no cropline."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.contract.spark_servers import server_process, wait_for_log
from tests.ports import free_port

# Idle, Dask looks at itself fifty times a second, and its profiler a hundred times.
_CALM = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
}


@contextmanager
def dask_cluster(folder: Path, python: Path, port: int = 0, *, nanny: bool = True) -> Iterator[str]:
    """Start a scheduler and one worker of two threads; yield the scheduler's address, by default with a free port.

    nanny: a second process starts the worker, and starts another one when the worker dies.
    """
    address = f"tcp://127.0.0.1:{port or free_port()}"
    scheduler = [str(python), "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    # The default is HTTP on port 8787 of every network, as for any other scheduler on this machine.
    scheduler += ["--dashboard-address", "127.0.0.1:0"]
    worker = [str(python), "-m", "distributed.cli.dask_worker", address, "--nthreads", "2", "--no-dashboard"]
    worker += [] if nanny else ["--no-nanny"]
    with ExitStack() as stack:
        log = folder / "scheduler.log"
        wait_for_log(stack.enter_context(server_process(scheduler, folder, log, **_CALM)), log, "Scheduler at")
        log = folder / "worker.log"
        wait_for_log(stack.enter_context(server_process(worker, folder, log, **_CALM)), log, "Registered to")
        yield address


@contextmanager
def ray_cluster(folder: Path, python: Path, port: int = 0) -> Iterator[str]:
    """Start a head node of two CPUs; yield its address, by default with a free port."""
    port, log = port or free_port(), folder / "ray.log"
    command = [str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
    command += ["--num-cpus", "2", "--include-dashboard", "false", "--ray-client-server-port", str(free_port())]
    with server_process(command, folder, log) as process:
        wait_for_log(process, log, "Ray runtime started")
        yield f"127.0.0.1:{port}"
