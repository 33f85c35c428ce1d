"""``python -m tvm_flow.bench NAME [options]``."""

from __future__ import annotations

import importlib
import os
import sys

from tvm_flow.errors import TvmFlowError

ALL_CORES = ("full", "ranking", "step", "tuning", "vulkan")
"""Benches that say themselves how many threads they use."""
NAMES = (
    *("arm", "attention", "floats", "full", "gemm", "npu", "quality", "ranking", "size", "step", "tuning", "vulkan"),
    "x86",
)


def main(arguments: list[str]) -> int:
    """Run the named bench; 2 for an unknown name or a bad input, 130 for one that was interrupted."""
    if not arguments or arguments[0] not in NAMES:
        print(f"bench: expected one of {', '.join(NAMES)}, got {arguments[:1] or 'nothing'}", file=sys.stderr)
        return 2
    for name in ("OMP_NUM_THREADS", "TVM_NUM_THREADS"):  # read when the libraries are loaded, so before the import
        if arguments[0] in ALL_CORES:
            os.environ.pop(name, None)
        else:
            os.environ[name] = "1"
    try:
        importlib.import_module(f"tvm_flow.bench.{arguments[0]}").main(arguments[1:])
    except TvmFlowError as error:
        print(f"bench {arguments[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nbench {arguments[0]}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
