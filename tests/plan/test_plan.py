"""The plan of a real step graph, simulated byte by byte; and the C that says the same."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.elf_file import read_elf

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import KernelCall, Program, TensorSpec
from tvm_flow.plan.emit import c_string, emit_c
from tvm_flow.plan.folds import FoldRow
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.static_plan import PlacedTensor, Plan, tensor_bytes, tensor_lifetimes
from tvm_flow.plan.store import WeightStore
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import INCLUDE, link_library

ODD = [
    'plain "quoted"',
    "back\\slash",
    "new\nline",
    "*/ /* **// //",
    "??/ ??=",
    "naïve 😀",
    "\x01\x7f\t",
    "%s {}",
    "a" * 4000,
]


class TestPlan:
    def test_every_call_reads_what_was_written_and_still_stands(self, library: GroupLibrary) -> None:
        """The prologue once, then two steps; before each part the arena holds nothing but the inputs of that part."""
        plan = library.plan
        owner: dict[tuple[str, int], int] = {}

        def extent(index: int) -> list[tuple[str, int]]:
            tensor = plan.tensors[index]
            return [(tensor.space, tensor.offset + i) for i in range(tensor_bytes(tensor.spec))]

        def claim(index: int) -> None:
            owner.update(dict.fromkeys(extent(index), index))

        def stands(index: int) -> bool:
            constant = plan.tensors[index].space in ("weights", "step")
            return constant or all(owner.get(place) == index for place in extent(index))

        def run(calls: range, written_to: set[str]) -> None:
            for place in [place for place in owner if place[0] == "arena"]:
                del owner[place]
            read_first = {index for position in calls for index in plan.calls[position].args[:-1]}
            for index in plan.inputs:
                if index in read_first:
                    claim(index)
            for position in calls:
                *read, written = plan.calls[position].args
                for index in read:
                    assert stands(index), (position, plan.tensors[index])
                assert plan.tensors[written].space in written_to
                claim(written)
                assert all(stands(index) for index in read), f"call {position} overwrites what it reads"

        step = range(plan.prologue_calls, len(plan.calls))
        run(range(plan.prologue_calls), {"arena", "prompt"})
        run(step, {"arena"})
        run(step, {"arena"})
        assert stands(plan.output)

    def test_indices_and_extents_are_in_range(self, library: GroupLibrary, weights: WeightStore) -> None:
        plan = library.plan
        spaces = {"arena": plan.arena_bytes, "weights": plan.weights_bytes, "step": plan.step_bytes}
        spaces["prompt"] = plan.prompt_bytes
        for tensor in plan.tensors:
            assert tensor.offset % 64 == 0
            assert tensor.offset + tensor_bytes(tensor.spec) <= spaces[tensor.space], tensor
        for call in plan.calls:
            assert 0 <= call.kernel < len(plan.kernels)
            assert all(0 <= index < len(plan.tensors) for index in call.args)
        for row in plan.folds:
            assert row.out + 4 * row.count <= plan.step_bytes
        assert plan.weights_bytes <= len(weights.data)
        assert plan.liveness_bytes <= plan.arena_bytes <= 1.5 * plan.liveness_bytes

    def test_says_what_the_program_says(self, library: GroupLibrary) -> None:
        plan, program = library.plan, library.packed.program
        assert [plan.tensors[index].name for index in plan.inputs] == ["z", "y", "mask"]
        assert plan.tensors[plan.output].name == program.output
        assert len(plan.calls) == len(program.calls)
        for planned, call in zip(plan.calls, program.calls, strict=True):
            assert plan.kernels[planned.kernel] == call.kernel
            assert [plan.tensors[index].name for index in planned.args] == [*call.args, call.output]
        assert all(tensor.spec == program.tensors[tensor.name] for tensor in plan.tensors)
        assert plan.prologue_calls == program.prologue > 0
        assert {tensor.name for tensor in plan.tensors if tensor.space == "prompt"} == set(program.kept())

    def test_the_prompts_space_is_as_long_as_k_and_v(self, library: GroupLibrary) -> None:
        """Two blocks, K and V, six tokens of 32 floats; no two overlap."""
        kept = [tensor for tensor in library.plan.tensors if tensor.space == "prompt"]
        assert [tensor_bytes(tensor.spec) for tensor in kept] == [6 * 32 * 4] * 4
        assert sorted(tensor.offset for tensor in kept) == [768 * i for i in range(4)]
        assert library.plan.prompt_bytes == 4 * 768

    def test_folds_write_every_step_constant_once(self, library: GroupLibrary) -> None:
        plan = library.plan
        written = [set(range(row.out, row.out + 4 * row.count)) for row in plan.folds]
        assert sum(map(len, written)) == len(set().union(*written)), "two folds write the same byte"
        for tensor in plan.tensors:
            if tensor.space == "step":
                extent = set(range(tensor.offset, tensor.offset + tensor_bytes(tensor.spec)))
                assert extent <= set().union(*written), tensor

    @pytest.mark.parametrize(("shape", "dtype", "size"), [((), "float32", 4), ((3, 5), "int8", 15), ((0,), "int32", 0)])
    def test_sizes(self, shape: tuple[int, ...], dtype: str, size: int) -> None:
        assert tensor_bytes(TensorSpec(shape, dtype)) == size

    @pytest.mark.parametrize("dtype", ["float16", "bool", "float64"])
    def test_a_type_that_the_runtime_lacks_is_refused(self, dtype: str) -> None:
        with pytest.raises(BuildError, match=f"got {dtype}; cast it"):
            tensor_bytes(TensorSpec((1,), dtype))

    def test_more_axes_than_the_descriptor_holds_are_refused(self) -> None:
        assert tensor_bytes(TensorSpec((1,) * 8, "int8")) == 1
        with pytest.raises(BuildError, match="at most 8 axes, got 9"):
            tensor_bytes(TensorSpec((1,) * 9, "int8"))


class TestInputs:
    """When the memory of graph inputs is theirs."""

    def lifetimes(self, *calls: tuple[str, ...], prologue: int) -> dict[str, tuple[int, int]]:
        """First and last call of each arena tensor; a call is (*args, output)."""
        graph = LiftedGraph(None, ("z", "y", "mask"), {}, {})
        tensors = {name: TensorSpec((4,), "float32") for call in calls for name in (*call, "z", "y", "mask")}
        made = tuple(KernelCall("k", call[:-1], call[-1]) for call in calls)
        program = Program(graph, {}, made, tensors, calls[-1][-1], prologue)
        found = tensor_lifetimes(PackedProgram(program, {}, {}))
        return {name: (lifetime.first, lifetime.last) for name, lifetime in found.items()}

    def test_each_part_has_its_own(self) -> None:
        found = self.lifetimes(("y", "a"), ("a", "k"), ("z", "mask", "b"), ("b", "k", "o"), prologue=2)
        assert found == {"z": (2, 2), "y": (0, 0), "mask": (2, 2), "a": (0, 1), "b": (2, 3), "o": (3, 4)}

    def test_what_both_parts_read_stays(self) -> None:
        found = self.lifetimes(("y", "mask", "k"), ("z", "k", "b"), ("b", "y", "mask", "o"), prologue=1)
        assert found == {"z": (1, 1), "y": (0, 2), "mask": (0, 2), "b": (1, 2), "o": (2, 3)}

    def test_without_a_prologue_all_are_there_from_the_first_call(self) -> None:
        found = self.lifetimes(("z", "a"), ("a", "y", "o"), prologue=0)
        assert found == {"z": (0, 0), "y": (0, 1), "mask": (0, 0), "a": (0, 1), "o": (1, 2)}


def compiles(source: str, folder: Path) -> str:
    """gcc's complaints about a plan's source, as strict as gcc is."""
    (folder / "plan.c").write_text(source)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{INCLUDE}"]
    return subprocess.run(["gcc", *flags, str(folder / "plan.c")], capture_output=True, text=True, check=False).stderr


EMPTY = Plan((), (), (), (), (), 0, 0, 0, 0, 0, 0, 0)


class TestEmit:
    def test_a_second_compiler_has_no_complaint(self, library: GroupLibrary, tmp_path: Path) -> None:
        assert compiles(emit_c(library.plan, "triple cpu", "avx2 fma"), tmp_path) == ""

    def test_an_empty_plan_compiles(self, tmp_path: Path) -> None:
        assert compiles(emit_c(EMPTY, "", ""), tmp_path) == ""

    @pytest.mark.parametrize("name", ODD)
    def test_no_name_escapes_its_comment_or_string(self, name: str, tmp_path: Path) -> None:
        plan = replace(EMPTY, tensors=(PlacedTensor(name, TensorSpec((2,), "int8"), "arena", 0),) * 2)
        source = emit_c(plan, name, name)
        assert source.count("TVM_FLOW_ARENA") == 2
        assert compiles(source, tmp_path) == ""

    def test_strings_arrive_as_they_were(self, tmp_path: Path) -> None:
        rows = "\n".join(f"const char *odd{i} = {c_string(text)};" for i, text in enumerate(ODD))
        (tmp_path / "odd.c").write_text(rows)
        subprocess.run(["gcc", "-std=c11", "-shared", "-o", tmp_path / "odd.so", tmp_path / "odd.c"], check=True)
        library = ctypes.CDLL(str(tmp_path / "odd.so"))
        for i, text in enumerate(ODD):
            assert ctypes.c_char_p.in_dll(library, f"odd{i}").value == text.encode()

    def test_offsets_beyond_four_gibibytes_stay_whole(self, tmp_path: Path) -> None:
        far = 5 * 2**32 + 64
        plan = replace(
            EMPTY,
            tensors=(PlacedTensor("far", TensorSpec((2,), "int8"), "weights", far),),
            folds=(FoldRow(1, 2, 0, 0, far),),
            weights_bytes=far + 64,
        )
        source = emit_c(plan, "", "")
        assert source.count(f"{far}u") == 2
        assert f"{far + 64}u" in source
        assert compiles(source, tmp_path) == ""


class TestLink:
    def test_a_library_exports_one_name_and_needs_only_libc(self, library: GroupLibrary) -> None:
        elf = read_elf(library.path)
        assert elf.exported == {"tvm_flow_library"}
        assert elf.needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}
        assert not [name for name in elf.undefined if "TVM" in name or "tvm" in name]
        assert elf.undefined <= {"memcpy", "memset", "memmove", "__stack_chk_fail"} | LIBM, elf.undefined

    def test_two_libraries_in_one_process_keep_apart(self, library: GroupLibrary, tmp_path: Path) -> None:
        copy = tmp_path / "copy.so"
        copy.write_bytes(library.path.read_bytes())
        one, two = (ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in (library.path, copy))
        addresses = {ctypes.addressof(ctypes.c_uint32.in_dll(lib, "tvm_flow_library")) for lib in (one, two)}
        assert len(addresses) == 2

    def test_the_linkers_words_reach_the_user(self, library: GroupLibrary, host: TargetSpec, tmp_path: Path) -> None:
        (kernels,), output = library.artifacts.objects, tmp_path / "out.so"
        with pytest.raises(BuildError, match=r"out\.so: expected zig cc .*exit code 1.*no_such_type"):
            link_library([kernels], "no_such_type x;", host.zig_triple, output)
        with pytest.raises(BuildError, match="no_such_kernel"):
            source = emit_c(replace(library.plan, kernels=("no_such_kernel",) * len(library.plan.kernels)), "", "")
            link_library([kernels], source, host.zig_triple, output)
        with pytest.raises(BuildError, match="nowhere"):
            link_library([kernels], emit_c(library.plan, "", ""), "x86_64-nowhere-elf", output)
        assert list(tmp_path.iterdir()) == []


LIBM = frozenset({"rintf", "roundevenf", "sqrtf", "expf", "floorf", "fmaxf", "fminf"})
