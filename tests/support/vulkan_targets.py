"""STDiT-XL at full size for every Vulkan target that ships: nothing may be left to the CPU, no module be invalid.

`python -m support.vulkan_targets [NAME ...]` prints a JSON line for each target:

    {"target", "on_device", "pipelines", "modules", "spirv_bytes", "seconds", "wrong": [...]}

One block and one step: blocks are equal, and steps differ in constants. The modules are those of the compiled library,
given to spirv-val once more, so that what is validated is what a device would get. ``on_device`` is the share of
multiply-adds there; ``wrong`` says what failed, and what the device does not run and why.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tvm_flow.backends.vulkan.payload import counted, modules_of
from tvm_flow.bench.models import bench_model, write_inputs
from tvm_flow.bench.stages import run_stage, stage_commands
from tvm_flow.check.sampling import Unchecked
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import TvmFlowError
from tvm_flow.pipeline.stages import compile_stage
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import load_target
from tvm_flow.target.target_names import targets_folder
from tvm_flow.target.vulkan_device import VulkanDevice
from tvm_flow.toolchain.spirv import VALIDATOR, capabilities_of

MODEL, BLOCKS, STEPS = "stdit-xl", 1, 1


def exported(folder: Path) -> Path:
    """The step's graphs, with random weights."""
    commands = stage_commands(write_inputs(bench_model(MODEL, BLOCKS), folder, STEPS), folder, threads=1)
    for stage in ("calibrate", "quantize", "export"):
        run_stage(commands[stage])
    return folder / "export"


def compiled(name: str, export: Path, folder: Path) -> dict[str, Any]:
    """The line of target ``name``."""
    device = load_target(name).vulkan
    assert device is not None, name
    line: dict[str, Any] = {"target": name}
    start = time.perf_counter()
    try:
        bundle = compile_stage(export, name, folder / name, CompileOptions(check=Unchecked(), progress=False))
    except TvmFlowError as error:
        return line | {"wrong": [str(error)]}
    (library,) = bundle.bundle.glob("lib/*/group0.so")
    contents = library.read_bytes()
    modules, (pipelines, spirv_bytes) = modules_of(contents), counted(contents)
    wrong = [said for said in bundle.coverage if "refused" in said]
    wrong += [said for module in modules if (said := complaint(module, device, folder / "module.spv"))]
    line |= {"on_device": bundle.accelerated, "pipelines": pipelines, "modules": len(modules)}
    return line | {"spirv_bytes": spirv_bytes, "seconds": round(time.perf_counter() - start, 1), "wrong": wrong}


def complaint(module: bytes, device: VulkanDevice, file: Path) -> str:
    """What stands against ``module`` on ``device``, or ""."""
    beyond = sorted(set(capabilities_of(module)) - device.capabilities)
    if beyond:
        return f"capabilities {', '.join(beyond)}"
    file.write_bytes(module)
    command = [VALIDATOR, "--target-env", device.environment, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() if done.returncode else ""


def main(*names: str) -> int:
    """1 when anything is wrong for one of the targets ``names``, or of all."""
    wrong = False
    with temporary_folder("targets") as folder:
        export = exported(folder)
        for name in names or sorted(path.stem for path in targets_folder().glob("vulkan-*.yaml")):
            line = compiled(name, export, folder)
            print(json.dumps(line), flush=True)
            shutil.rmtree(folder / name, ignore_errors=True)
            wrong |= bool(line["wrong"])
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
