"""What a machine says of itself around a measurement: whoever reads a record later can tell what it was worth.

    governor            of each kind of CPU that the process may use
    mhz, mhz_max        now and at most, over those CPUs: lowest and highest
    celsius             the hottest thermal zone
    throttled           events that the kernel counted (x86), or the firmware's bits (Raspberry Pi)
    cpus, policy, nice  affinity, scheduling class and niceness of this process
    load                runnable processes over the last minute

A key is left out where the system does not say, as a virtual machine does not: unknown is not zero.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tvm_flow.tune.entries import Json

_POLICIES = {
    getattr(os, name): name.removeprefix("SCHED_").lower()
    for name in ("SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_FIFO", "SCHED_RR")
    if hasattr(os, name)
}
_CPU = "/sys/devices/system/cpu/cpu0"


def machine_state(root: Path = Path("/"), pid: int = 0) -> dict[str, Json]:
    """See the module; ``pid`` 0 is this process. A file that cannot be read is one that does not say."""
    cpus = sorted(os.sched_getaffinity(pid))
    folders = [root / f"sys/devices/system/cpu/cpu{cpu}" for cpu in cpus]
    now = _numbers(folder / "cpufreq/scaling_cur_freq" for folder in folders)
    most = _numbers(folder / "cpufreq/cpuinfo_max_freq" for folder in folders)
    heat = _numbers(root.glob("sys/class/thermal/thermal_zone*/temp"))
    governors = {text for folder in folders if (text := _text(folder / "cpufreq/scaling_governor"))}
    found: dict[str, Json] = {
        "governor": " ".join(sorted(governors)) or None,
        "mhz": _range(now),
        "mhz_max": _range(most),
        "celsius": max(heat) / 1000 if heat else None,
        "throttled": _throttled(root, folders),
        "cpus": ",".join(map(str, cpus)),
        "policy": _POLICIES.get(os.sched_getscheduler(pid), "unknown"),
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "load": _load(root),
    }
    return {name: value for name, value in found.items() if value is not None}


def throttled_between(before: dict[str, Json], after: dict[str, Json]) -> bool:
    """True when the machine was slowed down between two states, or is."""
    one, other = before.get("throttled"), after.get("throttled")
    return one != other or (isinstance(other, str) and other not in ("0", "0x0"))


def board_state(read: Callable[[str], str]) -> dict[str, Json]:
    """Governor, clock, heat and load of a board, of its first core and thermal zone; without what it does not say."""
    load, heat = read("/proc/loadavg").split(), read("/sys/class/thermal/thermal_zone0/temp").strip()
    found: dict[str, Json] = {
        "governor": read(f"{_CPU}/cpufreq/scaling_governor").strip() or None,
        "mhz": _mhz(read(f"{_CPU}/cpufreq/scaling_cur_freq")),
        "mhz_max": _mhz(read(f"{_CPU}/cpufreq/cpuinfo_max_freq")),
        "celsius": int(heat) / 1000 if heat.isdigit() else None,
        "load": float(load[0]) if load else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def joined(states: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Many states as one: what never changed as it was, else "least..greatest" of numbers, and all texts that were."""
    found: dict[str, Json] = {}
    for name in {name: None for state in states for name in state}:
        values = list(dict.fromkeys(state.get(name) for state in states))
        numbers = [value for value in values if isinstance(value, int | float)]
        if len(values) == 1:
            found[name] = values[0]
        elif len(numbers) == len(values):
            found[name] = f"{min(numbers):g}..{max(numbers):g}"
        else:
            found[name] = ", ".join(str(value) for value in values)
    return found


def _throttled(root: Path, folders: Iterable[Path]) -> Json:
    firmware = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if firmware:
        return firmware if firmware.startswith("0x") else f"0x{firmware}"
    counts = _numbers(folder / "thermal_throttle/core_throttle_count" for folder in folders)
    return sum(counts) if counts else None


def _range(kilohertz: list[int]) -> str | None:
    return f"{min(kilohertz) // 1000}..{max(kilohertz) // 1000}" if kilohertz else None


def _load(root: Path) -> float | None:
    text = _text(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _numbers(paths: Iterable[Path]) -> list[int]:
    return [int(text) for path in paths if (text := _text(path)).lstrip("-").isdigit()]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _mhz(text: str) -> str | None:
    return str(int(text) // 1000) if text.strip().isdigit() else None
