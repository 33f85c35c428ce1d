"""What is read of a machine, on folders laid out as Linux lays them out."""

from __future__ import annotations

import os
from pathlib import Path

from tvm_flow.tune.machine_state import joined, machine_state, throttled_between


def board(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def test_a_board_that_tells_everything_is_read(tmp_path: Path) -> None:
    cpu = f"sys/devices/system/cpu/cpu{min(os.sched_getaffinity(0))}"
    root = board(
        tmp_path,
        {
            f"{cpu}/cpufreq/scaling_governor": "ondemand",
            f"{cpu}/cpufreq/scaling_cur_freq": "1500000",
            f"{cpu}/cpufreq/cpuinfo_max_freq": "2400000",
            "sys/class/thermal/thermal_zone0/temp": "48100",
            "sys/class/thermal/thermal_zone1/temp": "51250",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50000",
            "proc/loadavg": "0.52 0.4 0.3 1/200 4242",
        },
    )
    state = machine_state(root)
    assert state["governor"] == "ondemand"
    assert (state["mhz"], state["mhz_max"], state["celsius"]) == ("1500..1500", "2400..2400", 51.25)
    assert (state["throttled"], state["load"]) == ("0x50000", 0.52)
    assert throttled_between(state, state)


def test_what_a_machine_does_not_say_is_left_out(tmp_path: Path) -> None:
    assert set(machine_state(tmp_path)) == {"cpus", "policy", "nice"}


def test_a_zone_that_says_nonsense_is_not_read(tmp_path: Path) -> None:
    board(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "hot"})
    assert "celsius" not in machine_state(tmp_path)


def test_the_affinity_and_class_of_this_process_are_known() -> None:
    state = machine_state()
    assert state["cpus"] == ",".join(map(str, sorted(os.sched_getaffinity(0))))
    assert state["policy"] == "other"


def test_states_of_many_rounds_are_joined_without_losing_what_changed() -> None:
    states = [{"governor": "powersave", "celsius": 40.0, "mhz": "600..600", "nice": 0}]
    states += [{"governor": "powersave", "celsius": 55.5, "mhz": "2400..2400", "nice": 0}]
    assert joined(states) == {
        "governor": "powersave",
        "celsius": "40..55.5",
        "mhz": "600..600, 2400..2400",
        "nice": 0,
    }


def test_counted_events_mean_throttling_only_when_they_grow() -> None:
    assert not throttled_between({"throttled": 3}, {"throttled": 3})
    assert throttled_between({"throttled": 3}, {"throttled": 4})
    assert not throttled_between({}, {})
