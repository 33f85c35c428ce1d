"""Libraries whose tables of devices, segments and copies lie: refused at open, before a device is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import toy_bundle
from support.attack_programs import Attack

from tvm_flow.pack import write_bundle
from tvm_flow.run.status import Status

NULL = "NULL"
# macro -> (value, what the message says)
LIES: dict[str, tuple[dict[str, str | float], str]] = {
    "no table of devices": ({"device_table": NULL}, "devices 3: expected a table behind its count"),
    "no table of segments": ({"segment_table": NULL}, "segments 5: expected a table behind its count"),
    "no table of copies": ({"copy_table": NULL}, "copies 5: expected a table behind its count"),
    "endless devices": ({"devices": "0xffffffffu"}, "devices 4294967295: expected at most 1048576 rows"),
    "endless segments": ({"segments": "0xffffffffu"}, "segments 4294967295: expected at most 1048576 rows"),
    "endless copies": ({"copies": "0xffffffffu"}, "copies 4294967295: expected at most 1048576 rows"),
    "many devices": ({"devices": 9}, "devices 9: expected at most 8"),
    "too few devices": ({"devices": 2}, "tensor 7: expected a known device"),
    "devices but no table": ({"devices": 0}, "tensor 7: expected a known device"),
    "another first device": ({"cpu_name": '"gpu"'}, "device 0: expected cpu first, then others"),
    "a device without a name": ({"toy_name": NULL}, "device 1: expected cpu first, then others"),
    "two cpus": ({"toy_name": '"cpu"'}, "device 1: expected cpu first, then others"),
    "two of one name": ({"toy_name": '"other"'}, "device 2: expected a name of its own"),
    "another size of the cpu": ({"cpu_arena": 640}, "device 0: expected the sizes of the descriptor"),
    "outside a device's arena": ({"toy_arena": 255}, "tensor 14: expected an extent inside its space"),
    "outside a device's prompt": ({"toy_prompt": 79}, "tensor 11: expected an extent inside its space"),
    "a tensor of no device": ({"h_device": 3}, "tensor 13: expected a known device"),
    "an input of a device": ({"z_device": 1}, "input z 0: expected a tensor of the CPU"),
    "an output of a device": ({"v_device": 1, "toy_arena": 640}, "output 6: expected a tensor of the CPU"),
    "a segment on the wrong device": ({"step_device": 2}, "copy 3: expected a target on its segment's device"),
    "a call on the wrong device": (
        {"step_device": 2, "h_device": 2, "other_arena": 128},
        "call 2: expected tensors of its segment's device",
    ),
    "a segment of no device": ({"step_device": 3}, "segment 3: expected a known device"),
    "calls left out": ({"step_call": 3}, "segment 3: expected the calls after the segment before"),
    "calls twice": ({"step_call": 1}, "segment 3: expected the calls after the segment before"),
    "calls that are not there": ({"step_calls": 2}, "segment 3: expected the calls after the segment before"),
    "endless calls": ({"step_calls": "0xffffffffu"}, "segment 3: expected the calls after the segment before"),
    "across the border": ({"border": 2}, "segment 0: expected calls of the prologue or of the step"),
    "too few segments": ({"segments": 3, "copies": 3}, "segments 3: expected a segment for every call"),
    "a copy of nobody": ({"segments": 4}, "copies 5: expected a segment for every copy"),
    "copies twice": ({"first_copy": 2}, "segment 3: expected the copies after those of the segment before"),
    "copies left out": ({"first_copy": 4}, "segment 3: expected the copies after those of the segment before"),
    "copies past their table": ({"copy_count": 3}, "segment 3: expected the copies after those of the segment before"),
    "endless copies of one": (
        {"copy_count": "0xffffffffu"},
        "segment 3: expected the copies after those of the segment before",
    ),
    "a copy of no tensor": ({"copy_from": 16}, "copy 3: expected tensors of this library"),
    "a copy to no tensor": ({"copy_to": "0xffffffffu"}, "copy 3: expected tensors of this library"),
    "a copy on one device": ({"copy_from": 14}, "copy 3: expected two devices"),
    "a copy to another device": ({"copy_to": 8}, "copy 3: expected a target on its segment's device"),
    "a copy of another type": ({"h_bits": 8}, "copy 3: expected tensors of one type and shape"),
    "a copy of another shape": ({"h_extent": 2}, "copy 3: expected tensors of one type and shape"),
    "a copy to constants": ({"copy_from": 4, "copy_to": 12}, "copy 3: expected a target in the arena"),
    "a copy of what nobody wrote": (
        {"copy_from": 6, "copy_to": 14},
        "copy 3: expected a source that was written before",
    ),
    "a copy of constants": ({"copy_from": 3, "copy_to": 14}, "copy 3: expected a source that was written before"),
    "a copy to the prompt in a step": ({"copy_from": 10, "copy_to": 11}, "copy 3: expected a target in the arena, or"),
    "no payload behind its size": ({"payload": NULL}, "segment 3: expected a payload behind its size"),
    "no kernel for the cpu": ({"cpu_kernel": NULL}, "call 1: expected a function of its kernel"),
}


@pytest.mark.parametrize("which", LIES)
def test_lies_are_found_at_open(attack: Attack, tmp_path: Path, which: str) -> None:
    macros, message = LIES[which]
    library = toy_bundle.compile_split(tmp_path / "lie.so", "-Wno-unused", **macros)
    write_bundle(tmp_path / "b", toy_bundle.make_contents((library, library)))
    number, _, said = attack("try_open", tmp_path / "b").strip().partition(" ")
    assert re.search(message, said), said
    assert Status(int(number)) is Status.BAD_LIBRARY


def test_the_undamaged_one_is_refused_for_its_device_alone(attack: Attack, tmp_path: Path) -> None:
    library = toy_bundle.compile_split(tmp_path / "split.so")
    write_bundle(tmp_path / "b", toy_bundle.make_contents((library, library)))
    number, _, said = attack("try_open", tmp_path / "b").strip().partition(" ")
    assert Status(int(number)) is Status.NO_DEVICE, said
