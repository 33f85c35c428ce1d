"""Features: names in every spelling, what they bring, and that LLVM is left nothing that the runtime does not check."""

from __future__ import annotations

import re

import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.target.feature_names import ARCHITECTURES, flat
from tvm_flow.target.features import checkable, closed, known, llvm_cpus, llvm_features, llvm_names, reported, settle
from tvm_flow.toolchain.runtime_library import RUNTIME

A64, X64 = "aarch64-linux-gnu", "x86_64-linux-gnu"
SWITCHED_OFF = {
    A64: """
        CONTEXTIDREL2 altnzcv am amvs brbe bti ccdp ccidx ccpp chk clrbhb cssc dit ecv el2vmsa el3 ete faminmax fgt
        fp8 fp8dot2 fp8dot4 fp8fma fpac hbc hcx lor ls64 lut mec mops mpam mte nmi nv pan pan-rwv pauth perfmon
        predres rand ras rcpc3 rme sb sel2 sm4 sme sme-b16b16 sme-f16f16 sme-f64f64 sme-i16i64 sme2 sme2p1 spe spe-eef
        specres2 specrestrict ssbs sve-aes sve-b16b16 sve-bitperm sve-sha3 sve-sm4 tlb-rmi tracev8.4 trbe v8.1a
        v8.2a v8.3a v8.4a v8.5a v8.6a v8.7a v8.8a v8r v9.1a v9.2a v9.3a v9a vh wfxt xs""",
    X64: """
        amx-avx512 amx-bf16 amx-complex amx-fp16 amx-fp8 amx-int8 amx-movrs amx-tf32 amx-tile avx10.1 avx10.2
        avx512vp2intersect avxifma avxneconvert avxvnniint16 avxvnniint8 ccmp cldemote clflushopt clwb clzero
        cmpccxadd egpr enqcmd fma4 fsgsbase hreset invpcid kl lwp movdir64b movdiri movrs mwaitx ndd nf pconfig pku
        ppx prefetchi prfchw ptwrite push2pop2 rdpid rdpru rdrnd rdseed serialize sha512 shstk sm3 sm4 tbm tsxldtrk
        uintr usermsr waitpkg wbnoinvd widekl xop xsave xsavec xsaveopt xsaves zu""",
}
BOTH = pytest.mark.parametrize("triple", [A64, X64])


def attributes(used: frozenset[str], off: frozenset[str]) -> tuple[str, ...]:
    return (*(f"+{name}" for name in sorted(used)), *(f"-{name}" for name in sorted(off)))


@BOTH
@pytest.mark.parametrize("listed", ["nothing", "everything", "one at a time"])
def test_on_every_cpu_llvm_is_left_nothing_that_is_not_checked(triple: str, listed: str) -> None:
    names = ARCHITECTURES[triple.split("-")[0]]
    everything = sorted(names.checkable)
    choices = {"nothing": [[]], "everything": [everything], "one at a time": [[name] for name in everything]}[listed]
    cpus = llvm_cpus(triple) if listed != "one at a time" else llvm_cpus(triple)[::10]
    for cpu in cpus:
        for features in choices:
            used, off = settle(triple, cpu, features)
            left = llvm_features(triple, cpu, attributes(used, off))
            assert left - names.harmless == used, (cpu, features)
            assert not used & off and set(features) | names.base <= used


@BOTH
def test_every_name_of_this_llvm_is_known_to_be_harmless_or_switched_off(triple: str) -> None:
    """A new LLVM brings names of ways to tune, which cost speed until they are listed as such."""
    names = ARCHITECTURES[triple.split("-")[0]]
    assert llvm_names(triple) - names.harmless - names.checkable == set(SWITCHED_OFF[triple].split())
    assert not names.harmless & names.checkable


@BOTH
def test_what_a_feature_needs_can_be_checked_too(triple: str) -> None:
    names = ARCHITECTURES[triple.split("-")[0]]
    for name in names.checkable:
        needs = llvm_features(triple, names.plain_cpu, (f"+{name}",))
        assert needs - names.harmless - {"ete", "trbe"} <= closed(triple, [name]) <= names.checkable


@pytest.mark.parametrize(
    ("triple", "listed", "expected"),
    [
        (A64, "dotprod", "dotprod neon"),
        (A64, "i8mm", "dotprod i8mm neon"),
        (A64, "sve2", "fullfp16 neon sve sve2"),
        (X64, "fma", "avx fma sse2 sse3 sse4.1 sse4.2 ssse3"),
        (X64, "avx512vnni", "avx avx2 avx512bw avx512f avx512vl avx512vnni f16c fma sse2 sse3 sse4.1 sse4.2 ssse3"),
    ],
)
def test_a_feature_brings_what_it_needs(triple: str, listed: str, expected: str) -> None:
    assert closed(triple, listed.split()) == set(expected.split())


@pytest.mark.parametrize(
    ("triple", "linux", "llvm"),
    [
        *((A64, "asimd", "neon"), (A64, "asimddp", "dotprod"), (A64, "asimdhp", "fullfp16"), (A64, "atomics", "lse")),
        *((A64, "i8mm", "i8mm"), (A64, "+DotProd", "dotprod"), (A64, "crc32", "crc"), (A64, "lrcpc", "rcpc")),
        *((X64, "pni", "sse3"), (X64, "sse4_2", "sse4.2"), (X64, "avx512_vnni", "avx512vnni"), (X64, "abm", "lzcnt")),
        *((X64, "avx_vnni", "avxvnni"), (X64, "bmi1", "bmi"), (X64, "lahf_lm", "sahf"), (X64, "pclmulqdq", "pclmul")),
    ],
)
def test_spellings_of_linux_are_those_of_llvm(triple: str, linux: str, llvm: str) -> None:
    assert checkable(triple, linux) == llvm
    assert known(triple, linux) == llvm


@pytest.mark.parametrize(
    ("triple", "name", "message"),
    [
        (A64, "dotprodd", "got 'dotprodd', near dotprod; known are .*neon"),
        (A64, "avx2", "on aarch64; got 'avx2'"),
        (A64, "mte", "the runtime can check on aarch64; got 'mte'"),
        (X64, "avx521f", "got 'avx521f', near avx512f"),
        (X64, "amx-tile", "the runtime can check on x86_64"),
        ("riscv64-linux-gnu", "v", "riscv64-linux-gnu: expected an architecture .* aarch64, x86_64"),
    ],
)
def test_what_cannot_be_checked_is_refused_with_what_is_near(triple: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checkable(triple, name)


def test_what_llvm_would_ignore_cannot_be_switched_off() -> None:
    assert known(A64, "mte") == "mte"
    with pytest.raises(ConfigError, match="LLVM knows on aarch64; got 'sve3', near sve"):
        known(A64, "sve3")


def test_the_system_promises_only_what_has_all_that_it_needs() -> None:
    assert reported(X64, "flags : pni ssse3 sse4_1 sse4_2 avx2 bmi1\n") == {
        *("sse3", "ssse3", "sse4.1", "sse4.2", "crc32", "bmi"),
    }
    assert reported(A64, "processor : 0\nFeatures\t: fp asimd asimdhp asimddp i8mm sve2\n") == {
        *("neon", "fullfp16", "dotprod", "i8mm"),
    }


@pytest.mark.parametrize(
    ("architecture", "pattern"), [("aarch64", r'\{"(\w+)", AT_'), ("x86_64", r'\{"(\w+)", (?:\d|0x)')]
)
def test_the_runtime_checks_exactly_what_targets_may_use(architecture: str, pattern: str) -> None:
    names = ARCHITECTURES[architecture]
    table = re.findall(pattern, (RUNTIME / "src" / "cpu.c").read_text())
    assert len(table) == len(set(table))
    aliases = {flat(alias): name for alias, name in names.aliases.items()}
    own = {flat(name) for name in names.checkable}
    assert {name for name in table if name not in aliases} == own
    assert set(table) <= own | set(aliases)
