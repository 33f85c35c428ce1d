"""The targets command: which targets there are, what one says, and the file for the machine this runs on."""

from __future__ import annotations

from typing import Any

import yaml

from tvm_flow.target.board import detect_board
from tvm_flow.target.spec import detect_host, load_target
from tvm_flow.target.target_names import target_path, targets_folder

LOCAL_NAME = "this-machine"


def list_targets() -> list[str]:
    """One line for every shipped target: name, CPU, and the features that its kernels may use."""
    specs = [load_target(path.stem) for path in sorted(targets_folder().glob("*.yaml"))]
    width, cpu_width = (max(len(getattr(spec, key)) for spec in specs) for key in ("name", "cpu"))
    return [f"{s.name:{width}}  {s.cpu:{cpu_width}}  {' '.join(sorted(s.features))}" for s in specs]


def show_target(name: str) -> str:
    """The text of a target file that loads; `detect_target` for ``host``.

    Raises ConfigError naming the known targets, or the key that is wrong.
    """
    load_target(name)
    return detect_target() if name == "host" else target_path(name).read_text()


def detect_target() -> str:
    """A target file for this machine: what ``host`` stands for, with its cores and caches."""
    host = detect_host()
    values: dict[str, Any] = {"name": LOCAL_NAME, "triple": host.triple, "cpu": host.cpu}
    values["features"] = sorted(host.features)
    return yaml.safe_dump(values | detect_board().as_mapping(), sort_keys=False, default_flow_style=None, width=120)
