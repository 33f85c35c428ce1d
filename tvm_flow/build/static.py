"""Step groups, their runtime and a main program to one static executable, for machines that this one only emulates.

The kernels and plans are those of the shared libraries; only the way that the runtime finds them differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import atomic_path
from tvm_flow.build.emit import emit_linked
from tvm_flow.build.library import GroupLibrary, plan_source
from tvm_flow.build.target import TargetSpec
from tvm_flow.errors import BuildError
from tvm_flow.run.build import RUNTIME, runtime_sources

# As the shared runtime is compiled: no contraction, so that the sampler gives the same bits everywhere.
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-static", "-s")


def link_static(libraries: Sequence[GroupLibrary], target: TargetSpec, main: Path, output: Path) -> None:
    """Write ``output``: the C file ``main``, the runtime and every group of ``libraries``, needing no loader.

    ``main`` finds the groups in ``tvm_flow_linked_groups`` (see `emit_linked`). zig builds its C library for an
    architecture once, which takes a minute. Raises BuildError with the compiler's own message.
    """
    triple = f"{target.triple.split('-')[0]}-linux-musl"
    names = {library.path.stem: f"tvm_flow_library_{i}" for i, library in enumerate(libraries)}
    with tempfile.TemporaryDirectory(prefix="tvm-flow-link-") as name:
        folder = Path(name)
        (folder / "linked.c").write_text(emit_linked(names))
        sources = [main, *runtime_sources(), folder / "linked.c"]
        for library in libraries:
            group = library.path.stem
            source = folder / f"{group}.c"
            source.write_text(plan_source(library.plan, target, group, names[group]))
            sources += [source, library.kernels]
        with atomic_path(output) as temporary:
            command = [
                *(sys.executable, "-m", "ziglang", "cc", "-target", triple, *_FLAGS, f"-I{RUNTIME / 'include'}"),
                *("-o", str(temporary), *map(str, sources), "-lm", "-lpthread"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BuildError(
                    f"{output.name}: expected zig cc to link it for {triple}, got exit code {done.returncode}: "
                    f"{done.stderr.strip()[-2000:]}"
                )
    output.chmod(0o755)
