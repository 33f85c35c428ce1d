"""Tuning a small export from end to end on this machine: measured, kept, applied, and the same video."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_flow.backends.place import place
from tvm_flow.cli import main
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import ConfigError
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.lower.partition import partition
from tvm_flow.pack import read_golden
from tvm_flow.shipped import shipped_folder
from tvm_flow.target.spec import TargetSpec, load_target
from tvm_flow.tune import tune_export
from tvm_flow.tune.agreement import Right
from tvm_flow.tune.applied import Records, tuning_lines, with_records
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.ledger import append_all, read_ledger
from tvm_flow.tune.local_bench import LocalBench, LocalSampler
from tvm_flow.tune.race_program import RaceProcess
from tvm_flow.tune.records import verify_records
from tvm_flow.tune.rounds import LateError, NoTimeError
from tvm_flow.tune.search import Search
from tvm_flow.tune.tune_export import TuneOptions, tune
from tvm_flow.tune.verdicts import MODEL

pytestmark = pytest.mark.usefixtures("kernels_once")
OPTIONS = TuneOptions(trials=3, only="product", threads=1, progress=False)


@pytest.fixture
def bench(product: TunedKernel, host: TargetSpec, tmp_path: Path) -> Iterator[LocalBench]:
    return LocalBench({product.task.key.workload: product}, host, 1, 2, tmp_path)


def won(kernel: TunedKernel, bench: LocalBench, ratio: float = 1.2) -> Entry:
    """A record of the kernel's first candidate, as a search would have written it."""
    task, candidate = kernel.task, kernel.task.space[0]
    codes = (bench.code(task, candidate), bench.code(task, DEFAULT))
    return Entry(
        task.key, Kind.FINAL, candidate, *codes, (1e-3,) * 42, (1e-3 * ratio,) * 42, exact=True, label=task.label
    )


def one_of_each_kind(kernels: list[TunedKernel]) -> list[TunedKernel]:
    """With the candidate that is farthest from the default first."""
    found = {json.loads(each.task.space[-1])["kind"]: each for each in kernels}
    return [replace(each, task=replace(each.task, space=each.task.space[::-1])) for each in found.values()]


def test_every_kernel_is_a_task_once_and_its_space_leaves_the_default_out(kernels: list[TunedKernel]) -> None:
    tasks = [kernel.task for kernel in kernels]
    assert len({task.key.workload for task in tasks}) == len(tasks) > 3
    assert all(task.calls > 0 and task.space and DEFAULT not in task.space for task in tasks)
    labels = {task.label.split()[0] for task in tasks}
    assert {"product", "attention"} < labels, "and rows by name"


def test_candidates_are_compiled_compared_and_timed(product: TunedKernel, bench: LocalBench) -> None:
    chosen = product.task.space[:2]
    with bench.open(product.task, chosen) as sampler:
        assert all(sampler.sample(each) > 0 for each in (DEFAULT, *chosen))
        assert "cpus" in sampler.state()
    assert bench.code(product.task, chosen[0]) != bench.code(product.task, DEFAULT)


def test_a_candidate_whose_bits_differ_gives_no_time(
    product: TunedKernel, bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = RaceProcess.output

    def wrong(process: RaceProcess, kernel: int, timeout: float) -> bytes:
        data = right(process, kernel, timeout)
        return data if kernel == 0 else data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr(RaceProcess, "output", wrong)
    candidate = product.task.space[0]
    with bench.open(product.task, [candidate]) as sampler, pytest.raises(NoTimeError, match="output"):
        sampler.sample(candidate)


def test_a_default_that_the_reference_contradicts_ends_the_task(
    product: TunedKernel, bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RaceProcess, "output", lambda process, *_: bytes(process.args[-1].nbytes))
    with pytest.raises(NoTimeError, match="the default"), bench.open(product.task, []):
        pass


def test_a_race_that_is_not_ready_in_its_time_is_not_begun(
    product: TunedKernel, bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.open(product.task, []):
        """It is compiled now."""
    monkeypatch.setattr(RaceProcess, "output", lambda *_: pytest.fail("it was run"))
    with pytest.raises(LateError), bench.open(product.task, [], 0.0):
        pytest.fail("it was ready")


def test_candidates_are_compared_while_there_is_time() -> None:
    seen: list[int] = []

    class Slow(RaceProcess):
        def seconds(self, *_: object) -> float:
            return 1e-3

        def output(self, kernel: int, _timeout: float) -> bytes:
            seen.append(kernel)
            time.sleep(0.05)
            return b""

    sampler = LocalSampler(Slow((), 1, ()), [DEFAULT, "a", "b", "c"], {})
    with pytest.raises(LateError):
        sampler.start(Right((), np.zeros(0), b""), time.monotonic() + 0.01)
    assert seen in ([0], []), "one that was begun is ended"
    sampler.start(Right((), np.zeros(0), b""))
    assert seen[-4:] == [0, 1, 2, 3] and sampler.failed == {}


def test_tuning_writes_what_it_measures_and_a_met_budget_costs_nothing(
    exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    done = tune(exported.folder, host, tmp_path, OPTIONS, said.append)
    assert (done.trials, done.failed) == (3, {})
    entries = read_ledger(tmp_path).entries
    assert {entry.candidate for entry in entries if entry.kind is not Kind.FINAL} - {DEFAULT}
    assert all(entry.exact for entry in entries if entry.kind is Kind.FINAL)
    assert "compile" in done.lines()[-1]
    monkeypatch.setattr(LocalBench, "open", None)
    again = tune(exported.folder, host, tmp_path, OPTIONS, said.append)
    assert again.trials == 0
    assert "met" in said[-1]


def test_ctrl_c_keeps_what_was_measured(
    exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", interrupt)
    done = tune(exported.folder, host, tmp_path, OPTIONS, lambda _: None)
    assert done.interrupted
    assert read_ledger(tmp_path).entries, "the defaults were timed"


def test_a_kernel_that_is_not_there_is_an_error(exported: Exported, host: TargetSpec, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--only 'nothing'"):
        tune(exported.folder, host, tmp_path, replace(OPTIONS, only="nothing"), lambda _: None)


def test_a_bundle_takes_what_won_and_gives_the_same_video(
    exported: Exported,
    host: TargetSpec,
    compiler: Callable[[str, str], Compiled],
    tmp_path: Path,
    kernels: list[TunedKernel],
) -> None:
    plain, chosen = compiler("w8a8", "host"), one_of_each_kind(kernels)
    bench = LocalBench({each.task.key.workload: each for each in chosen}, host, 1, 2, tmp_path)
    append_all(tmp_path / "records", [won(each, bench) for each in chosen])
    options = CompileOptions(threads=1, progress=False, records=tmp_path / "records")
    tuned = compile_bundle(exported, host, tmp_path / "bundle", options)
    assert any(line.startswith(f"{len(chosen)} kernels tuned") for line in tuned.kernels) and len(chosen) == 3
    assert read_golden(tuned.bundle).latents.tobytes() == read_golden(plain.bundle).latents.tobytes()
    libraries = [
        next((bundle / "lib" / "host").glob("group0*")).read_bytes() for bundle in (plain.bundle, tuned.bundle)
    ]
    assert libraries[0] != libraries[1]
    before = (tmp_path / "bundle" / "manifest.json").stat().st_mtime_ns
    compile_bundle(exported, host, tmp_path / "bundle", options)
    assert (tmp_path / "bundle" / "manifest.json").stat().st_mtime_ns == before, "current"
    compile_bundle(exported, host, tmp_path / "bundle", replace(options, records=None))
    assert (tmp_path / "bundle" / "manifest.json").stat().st_mtime_ns != before, "without records it is another"


def test_records_that_do_not_count_are_named_with_what_is_other(
    exported: Exported, host: TargetSpec, product: TunedKernel, bench: LocalBench
) -> None:
    (group,) = import_steps(exported.graphs, progress=False)
    packed, good = place(partition(group.graph), host), won(product, bench)

    def why(entry: Entry) -> str:
        same, got = with_records(packed, host, Records({entry.key.workload: [entry]}))
        assert same.products == packed.products
        assert same.choices == packed.choices
        return " ".join(tuning_lines([(got, list(packed.program.kernels))]))

    key = good.key
    assert "1 kernels tuned" in " ".join(
        tuning_lines([(with_records(packed, host, Records({key.workload: [good]}))[1], [product.kernel])])
    )
    assert "other target: riscv" in why(replace(good, key=replace(key, target="riscv64 u74")))
    assert "other features" in why(replace(good, key=replace(key, features="sse2")))
    assert "other compilers" in why(replace(good, key=replace(key, compilers="apache-tvm 0.1")))
    assert "another method" in why(replace(good, key=replace(key, method="mean-0 threads=1")))
    assert "otherwise than the one that was measured" in why(replace(good, code="0"))
    assert "otherwise than the one that was measured" in why(replace(good, default_code="0"))
    assert "reference" in why(replace(good, exact=False))
    assert "not surely faster" in why(replace(good, baseline=good.samples))
    assert "tune again" in why(replace(good, candidate='{"kind":"product"}'))
    assert "tune again" in why(replace(good, candidate="nonsense"))


def test_modelled_records_count_where_nothing_was_measured_and_are_called_so(
    exported: Exported, host: TargetSpec, product: TunedKernel, bench: LocalBench
) -> None:
    (group,) = import_steps(exported.graphs, progress=False)
    packed, measured = place(partition(group.graph), host), won(product, bench)
    key = replace(measured.key, method=f"{MODEL} threads=4")
    modelled = replace(measured, key=key, kind=Kind.MODELLED, samples=(1000.0,), baseline=(1200.0,))

    def said(*entries: Entry) -> str:
        _, got = with_records(packed, host, Records({key.workload: list(entries)}))
        return " ".join(tuning_lines([(got, [product.kernel])]))

    assert said(modelled).startswith("1 kernels tuned (1 modelled, not measured)")
    assert said(measured, modelled) == said(measured), "what was measured decides alone"
    lost = replace(measured, baseline=measured.samples)
    assert said(lost, modelled) == said(lost)
    assert "not surely faster" in said(lost)
    assert "below 1.05" in said(replace(modelled, baseline=(1040.0,)))
    assert "otherwise than the one" in said(replace(modelled, code="0"))
    assert "reference" in said(replace(modelled, exact=False))
    disguised = replace(modelled, key=measured.key)
    assert "1 kernels tuned" not in said(disguised), "cycles under a measurement's key are no measurement"


def test_what_ships_is_modelled_and_whole() -> None:
    found = verify_records(*sorted((shipped_folder("targets") / "records").glob("*.jsonl")))
    assert all(entry.kind is Kind.MODELLED and entry.exact for entry in found.entries)
    assert all(entry.key.method.startswith(f"{MODEL} threads=") for entry in found.entries)


def test_minutes_are_shared_among_kernels_and_end(exported: Exported, host: TargetSpec, tmp_path: Path) -> None:
    """Far too few: they are over before anything is begun, which is no failure."""
    done = tune(exported.folder, host, tmp_path, replace(OPTIONS, minutes=1e-4), lambda _: None)
    assert (done.trials, done.failed, done.ended) == (0, {}, "")


@pytest.mark.parametrize("words", ["0", "-1", "nan", "inf", "ten"])
def test_minutes_are_more_than_none(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tune", f"--minutes={words}"])
    assert f"expected minutes above 0, like 30 or 0.5, got '{words}'" in capsys.readouterr().err


def test_a_target_whose_kernels_another_backend_runs_is_said_to_have_none_to_tune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_export, "load_exported", lambda export: export)
    monkeypatch.setattr(tune_export, "tuned_kernels", lambda *_: [])
    with pytest.raises(ConfigError, match="that the CPU runs: kernels of vulkan are not tuned"):
        tune(tmp_path, load_target("vulkan-llvmpipe"), tmp_path, TuneOptions(), print)
