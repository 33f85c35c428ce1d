"""Names of CPU features: those that the runtime can check, how Linux and compilers spell them, and what is harmless.

The names that can be checked are the ones of runtime/src/cpu.c; a test holds the two lists against each other. What is
in none of these lists is switched off when a CPU's name implies it, so a list that lags behind LLVM costs speed at
worst; a test says when it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Feature names of an architecture, in LLVM's spelling."""

    plain_cpu: str
    """The CPU that has ``base`` and nothing else."""
    base: frozenset[str]
    """What every core with Linux has, checked all the same."""
    checkable: frozenset[str]
    """What the runtime can look for before the first kernel runs; with these alone may code be generated."""
    aliases: Mapping[str, str]
    """Other spellings; see `flat` for how they are compared."""
    together: Mapping[str, frozenset[str]]
    """What comes with a feature on every core there is, though LLVM does not say so."""
    harmless: frozenset[str]
    """What brings no instruction beyond those of the base: how to tune for a core, and the base itself."""


def flat(name: str) -> str:
    """Names differ between LLVM and Linux by punctuation: avxvnni, avx_vnni; sse4.2, sse4_2; LLVM may lead with +."""
    return name.lower().translate(dict.fromkeys(map(ord, "._+-")))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARM = Names(
    plain_cpu="generic",
    base=frozenset({"neon"}),
    checkable=_words(
        """
        neon lse fullfp16 dotprod i8mm bf16 sve sve2 aes sha2 sha3 crc rdm rcpc rcpc-immo fp16fml complxnum jsconv
        fptoint flagm lse2
        """
    ),
    aliases={
        **{"asimd": "neon", "simd": "neon", "fp": "neon", "fp-armv8": "neon", "atomics": "lse"},
        **{"asimddp": "dotprod", "asimdhp": "fullfp16", "fphp": "fullfp16", "fp16": "fullfp16"},
        **{"asimdrdm": "rdm", "asimdfhm": "fp16fml", "crc32": "crc", "fcma": "complxnum", "jscvt": "jsconv"},
        **{"frint": "fptoint", "lrcpc": "rcpc", "ilrcpc": "rcpc-immo", "uscat": "lse2"},
    },
    together={"i8mm": frozenset({"dotprod"})},
    harmless=_words(
        """
        fp-armv8 v8a strict-align
        a320 a35 a510 a520 a520ae a53 a55 a57 a64fx a65 a710 a715 a72 a720 a720ae a73 a75 a76 a77 a78 a78ae a78c ampere1
        ampere1a ampere1b ampere1c apple-a10 apple-a11 apple-a12 apple-a13 apple-a14 apple-a15 apple-a16 apple-a17
        apple-a7 apple-m4 apple-m5 c1-nano c1-premium c1-pro c1-ultra carmel cortex-a725 cortex-r82 cortex-r82ae
        cortex-x1 cortex-x2 cortex-x3 cortex-x4 cortex-x925 exynosm3 exynosm4 falkor fujitsu-monaka kryo neoverse512tvb
        neoversee1 neoversen1 neoversen2 neoversen3 neoversev1 neoversev2 neoversev3 neoversev3AE olympus oryon-1
        saphira thunderx thunderx2t99 thunderx3t110 thunderxt81 thunderxt83 thunderxt88 tsv110
        addr-lsl-slow-14 aggressive-fma aggressive-interleaving alternate-sextload-cvt-f32-pattern alu-lsl-fast
        arith-bcc-fusion arith-cbz-fusion avoid-ldapur balance-fp-ops cmp-bcc-fusion disable-latency-sched-heuristic
        disable-maximize-scalable-bandwidth disable-unpredicated-ld-st-lower enable-select-opt exynos-cheap-as-move
        force-32bit-jump-tables fuse-address fuse-addsub-2reg-const1 fuse-adrp-add fuse-aes fuse-arith-logic
        fuse-crypto-eor fuse-csel fuse-cset fuse-literals ldp-aligned-only max-interleave-factor-4 no-sve-fp-ld1r
        no-zcz-fpr64 predictable-select-expensive slow-strqro-store store-pair-suppress stp-aligned-only uaops
        use-fixed-over-scalable-if-equal-cost use-postra-scheduler use-wzr-to-vec-move zcm-fpr128 zcm-gpr64
        zcz-fp-workaround zcz-fpr128 zcz-gpr32 zcz-gpr64
        """
    ),
)

X86 = Names(
    plain_cpu="x86-64",
    base=frozenset({"sse2"}),
    checkable=_words(
        """
        sse2 sse3 ssse3 sse4.1 sse4.2 sse4a popcnt crc32 cx16 sahf avx avx2 fma f16c bmi bmi2 lzcnt movbe adx aes
        pclmul sha gfni vaes vpclmulqdq avxvnni avx512f avx512bw avx512cd avx512dq avx512vl avx512vnni avx512bf16
        avx512bitalg avx512ifma avx512vbmi avx512vbmi2 avx512vpopcntdq avx512fp16
        """
    ),
    aliases={
        **{"pni": "sse3", "abm": "lzcnt", "bmi1": "bmi", "pclmulqdq": "pclmul", "lahf_lm": "sahf", "sha_ni": "sha"},
        **{"fma3": "fma", "avx512vbmi1": "avx512vbmi"},
    },
    together={"avx512vnni": frozenset({"avx512bw", "avx512vl"})},
    harmless=_words(
        """
        64bit 64bit-mode cmov cx8 fxsr mmx nopl sse x87
        allow-light-256-bit branch-hint branchfusion ermsb false-deps-getmant false-deps-lzcnt-tzcnt false-deps-mulc
        false-deps-mullq false-deps-perm false-deps-popcnt false-deps-range fast-11bytenop fast-15bytenop fast-7bytenop
        fast-bextr fast-dpwssd fast-gather fast-hops fast-imm16 fast-lzcnt fast-movbe fast-scalar-fsqrt
        fast-scalar-shift-masks fast-shld-rotate fast-variable-crosslane-shuffle fast-variable-perlane-shuffle
        fast-vector-fsqrt fast-vector-shift-masks faster-shift-than-shuffle fsrm idivl-to-divb idivq-to-divl lea-sp
        lea-uses-ag macrofusion no-bypass-delay no-bypass-delay-blend no-bypass-delay-mov no-bypass-delay-shuffle
        pad-short-functions prefer-256-bit prefer-mask-registers prefer-movmsk-over-vtest sbb-dep-breaking
        slow-3ops-lea slow-incdec slow-lea slow-pmaddwd slow-pmulld slow-pmullq slow-shld slow-two-mem-ops
        slow-unaligned-mem-16 slow-unaligned-mem-32 tuning-fast-imm-vector-shift use-glm-div-sqrt-costs
        use-slm-arith-costs vzeroupper
        """
    ),
)

ARCHITECTURES = {"aarch64": ARM, "x86_64": X86}
"""By the first part of a triple; kernels for another could not be checked."""
