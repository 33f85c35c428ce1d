"""Python, the packages that it has, and whether they can be imported."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

from tvm_flow.doctor.finding import Finding, Status
from tvm_flow.doctor.pins import Pin, Pins, within
from tvm_flow.doctor.tried import Tried, try_python
from tvm_flow.shipped import is_checkout

PAIR = ("apache-tvm", "apache-tvm-ffi")
"""Mended together: one of another version crashes with the other."""
USES: Mapping[str, tuple[str, str]] = {
    "apache-tvm": ("tvm", "compile, import, tune, boards"),
    "apache-tvm-ffi": ("tvm_ffi", "compile, import, tune, boards"),
    "torch": ("torch", "calibrate, quantize, export, compare, evaluate"),
    "onnx": ("onnx", "export, compile, import"),
    "numpy": ("numpy", "every command"),
    "xgboost": ("xgboost", "tune"),
    "cloudpickle": ("cloudpickle", "tune"),
    "psutil": ("psutil", "tune"),
    "tornado": ("tornado", "tune and boards on a tracker"),
    "ml_dtypes": ("ml_dtypes", "compile, import, tune"),
    "safetensors": ("safetensors", "every command"),
    "tqdm": ("tqdm", "every command"),
    "pyyaml": ("yaml", "every command"),
    "pydantic": ("pydantic", "every command"),
    "ziglang": ("ziglang", "compile, import, run: the C compiler"),
    "cryptography": ("cryptography", "sign, verify, run: signatures of bundles"),
    "pillow": ("PIL", "run, compare"),
    "av": ("av", "run, to write MP4"),
}
"""The module of each required package, and what needs it."""
EXTRAS: Mapping[str, str] = {
    "opensora": "embed --text-encoder and --autoencoder: Open-Sora's own folders",
    "metrics": "evaluate --metric: scores that the field reports",
    "cluster": "calibrate and evaluate with --workers or --scheduler",
    "npu-arm": "targets npu-arm-*, package: Arm's NPU tools",
    "npu-qualcomm": "package --qualcomm: Qualcomm's HTP compiler and emulator, of a licence of its own",
}
"""Extras that commands ask for; the others are for the repository's scripts."""


def python_finding(pins: Pins) -> Finding:
    """The Python that runs this."""
    status = Status.OK if within(platform.python_version().rstrip("+"), pins.python) else Status.WRONG
    found = f"{platform.python_version()}, of {pins.python}: {sys.executable}"
    mend = "scripts/setup" if is_checkout() else "python3.11 -m venv .venv"
    return Finding("python", status, found, "every command", mend, required=True)


def package_findings(pins: Pins) -> Iterator[Finding]:
    """Of what every installation has, TVM's pair first; versions before imports are tried."""
    first = sorted(pins.required, key=lambda pin: pin.name not in PAIR)
    with ThreadPoolExecutor(2) as pool:
        tried = pool.map(_imported, first)
        for pin, each in zip(first, tried, strict=True):
            yield _package(pin, each, pins)


def extra_findings(pins: Pins) -> Iterator[Finding]:
    """One for each of `EXTRAS`, naming what of it is absent or of another version."""
    for extra, needed_by in EXTRAS.items():
        lacking = [pin for pin in pins.extras[extra] if not pin.met_by(installed(pin.name))]
        status = Status.OK
        if lacking:
            status = Status.WRONG if any(installed(pin.name) for pin in lacking) else Status.MISSING
        shown = lacking or pins.extras[extra]
        found = ", ".join(f"{pin.name} {installed(pin.name) or 'none'}" for pin in shown)
        # Without their dependencies: tosa-tools pins an older numpy than it needs.
        mend = pip_install(lacking, *(["--no-deps"] if extra == "npu-arm" else []))
        yield Finding(f"extra {extra}", status, found, needed_by, mend)


def installed(name: str) -> str:
    """The version of a package by its metadata; "" when it is not installed."""
    try:
        return version(name) or ""  # None for metadata without one, as a broken installation leaves it
    except PackageNotFoundError:
        return ""


def pip_install(pins: Sequence[Pin], *options: str) -> str:
    """The command for a shell."""
    return shlex.join([sys.executable, "-m", "pip", "install", *options, *map(str, pins)])


def _use(pin: Pin) -> tuple[str, str]:
    return USES.get(pin.name, (pin.name.replace("-", "_"), "every command"))


def _imported(pin: Pin) -> Tried | None:
    """None where it is not installed, so that nothing is to be tried."""
    return try_python(f"import {_use(pin)[0]}") if installed(pin.name) else None


def _package(pin: Pin, tried: Tried | None, pins: Pins) -> Finding:
    together = [each for each in pins.required if each.name in PAIR] if pin.name in PAIR else [pin]
    module, needed_by = _use(pin)
    status, found, mend = Status.OK, installed(pin.name), pip_install(together)
    if tried is None:
        status, found = Status.MISSING, f"none, of {pin.asked}"
    elif not pin.met_by(found):
        status, found = Status.WRONG, f"{found}, expected {pin.asked}"
    elif not tried.good:
        status, found = Status.WRONG, f"{found}, but import {module}: {tried.words}"
        mend = pip_install(together, "--force-reinstall", "--no-deps")
    return Finding(pin.name, status, found, needed_by, mend, required=True)
