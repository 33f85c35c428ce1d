"""Tasks over worker processes by Dask's scheduler: those of this machine, or those of a cluster, by the same code.

Dask and not Ray, because a task here takes minutes and returns kilobytes: what is wanted is a scheduler that gives a
lost worker's task to another one, and Dask's is two wheels of Python (2 MB; Ray's is 70 MB of its own daemons) with one
client for both kinds of place. It comes with the extra ``cluster``.

Results come in the order in which they are finished, each once, whatever workers died meanwhile: a task whose worker
is lost is run again by another. A task that takes four workers with it is given up. A function travels by its name
and is imported where it runs, so all machines need the same tvm_flow.

Nothing of Dask is authenticated unless its own TLS settings say so: whoever reaches a scheduler's port runs code on
its workers.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tvm_flow.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_SECONDS = 10
WORKER_SECONDS = 60
"""For the first worker to come up: it imports torch, from a cold disk perhaps."""


@dataclass(frozen=True)
class Workers:
    """``count`` processes of this machine, or those of the scheduler at ``scheduler``, like tcp://10.0.0.1:8786."""

    count: int = 1
    scheduler: str | None = None


@contextmanager
def connected(workers: Workers) -> Iterator[Client]:
    """A client of ``workers``, whose first one is up; processes of this machine end with it.

    Raises ClusterError when Dask is not installed, no scheduler answers, or it has no worker.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ClusterError(
            "workers: expected the package distributed, which is not installed; run: pip install 'tvm-flow[cluster]'"
        ) from None
    if workers.scheduler is not None:
        try:
            client = Client(workers.scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise ClusterError(
                f"{workers.scheduler}: expected Dask's scheduler to answer within {CONNECT_SECONDS} s, got {error}; "
                "start it by: dask scheduler --host 127.0.0.1"
            ) from error
        with client:
            yield _with_workers(client, workers.scheduler)
        return
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None, "host": "127.0.0.1"}
    with _deaf_to_interrupts():
        cluster = LocalCluster(n_workers=workers.count, processes=True, silence_logs="ERROR", **options)
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def results(client: Client, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Generator[Result]:
    """``function`` of every task, as they are finished; what is not yet finished is cancelled when this is closed.

    Raises what ``function`` raises, and ClusterError when a task was given up or the scheduler was lost.
    """
    from distributed import KilledWorker, as_completed

    futures = [client.submit(function, task, pure=False) for task in tasks]
    try:
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()
    except KilledWorker as error:
        raise ClusterError(
            f"workers: expected one to finish a task, got four in a row that died in it ({error.last_worker.address} "
            "was the last): out of memory is the usual cause; what is finished is kept"
        ) from error
    except (CancelledError, OSError) as error:
        raise ClusterError(
            f"workers: the scheduler was lost ({error or type(error).__name__}); what is finished is kept, run the "
            "same command again to go on"
        ) from error
    finally:
        with suppress(OSError):  # nothing to cancel where the scheduler is gone
            client.cancel(futures, force=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started here ignore Ctrl-C, which a terminal sends to all: they end when this one says so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no handler can be set, none gets the signal
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _with_workers(client: Client, address: str) -> Client:
    from distributed import TimeoutError as NoWorker

    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except (NoWorker, TimeoutError):
        raise ClusterError(
            f"{address}: expected a worker within {WORKER_SECONDS} s, got none; start some by: dask worker {address} "
            "--nthreads 1"
        ) from None
    return client
