"""Tasks over workers: every result once, a lost worker's task again, and each way to have no workers by its name."""

from __future__ import annotations

import operator
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from distributed import Client, LocalCluster

from tvm_flow.cluster import Workers, connected, pool, results
from tvm_flow.errors import ClusterError


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connected(Workers(2)) as client:
        yield client


def test_every_task_is_finished_once(client: Client) -> None:
    assert sorted(results(client, operator.neg, range(20))) == list(range(-19, 1))


def test_ctrl_c_is_the_callers_alone(client: Client) -> None:
    handlers = client.run(signal.getsignal, signal.SIGINT)
    assert set(handlers.values()) == {signal.SIG_IGN} and signal.getsignal(signal.SIGINT) != signal.SIG_IGN


def test_a_killed_workers_tasks_are_done_by_another(client: Client) -> None:
    pids = list(client.run(os.getpid).values())
    found = results(client, slowly, range(6))
    first = next(found)
    os.kill(pids[0], signal.SIGKILL)
    assert sorted([first, *found]) == [0, 1, 4, 9, 16, 25]
    assert pids[0] not in client.run(os.getpid).values()


def test_an_error_of_a_task_is_the_callers(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        list(results(client, reciprocal, [1, 0]))


def test_a_task_that_kills_every_worker_is_given_up(client: Client) -> None:
    with pytest.raises(ClusterError, match=r"got four in a row that died in it .* out of memory"):
        list(results(client, os._exit, [1]))
    assert list(results(client, operator.neg, [7])) == [-7]


def test_no_scheduler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with (
            pytest.raises(ClusterError, match=f"{address}: expected Dask's scheduler to answer"),
            connected_to(address),
        ):
            pass


def test_a_scheduler_without_workers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WORKER_SECONDS", 0.2)
    options = {"n_workers": 0, "dashboard_address": None, "host": "127.0.0.1", "processes": False}
    with LocalCluster(protocol="tcp", **options) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(ClusterError, match=r"expected a worker within 0.2 s, got none"), connected_to(address):
            pass


def test_dask_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"run: pip install 'tvm-flow\[cluster\]'"), connected(Workers()):
        pass


def connected_to(address: str) -> AbstractContextManager[Client]:
    return connected(Workers(scheduler=address))


def slowly(number: int) -> int:
    import time

    time.sleep(0.3)
    return number * number


def reciprocal(number: int) -> float:
    return 1 / number
