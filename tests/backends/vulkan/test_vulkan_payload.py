"""What a payload holds can be read out of the file of a library."""

from __future__ import annotations

from tvm_flow.backends.vulkan.payload import Dispatch, Pipeline, ShaderKernel, counted, encode_payload, modules_of


def test_modules_come_out_of_a_library_as_they_went_in() -> None:
    first, second, third = (bytes(range(start, start + 4 * words)) for start, words in ((1, 3), (40, 1), (90, 6)))
    pipelines = (Pipeline(first, (8, 1, 1)), Pipeline(second, (8, 1, 1), fallback=Pipeline(third, (8, 1, 1))))
    kernel = ShaderKernel(tuple(Dispatch(pipeline, (1, 1, 1), ()) for pipeline in (*pipelines, pipelines[0])))
    library = b"\x7fELF" * 5 + encode_payload({"k": kernel}, ["k", None]) + b"\0" * 40
    assert set(modules_of(library)) == {first, second, third} and len(modules_of(library)) == 3
    assert counted(library) == (3, len(first + second + third))
    assert modules_of(b"\x7fELF") == ()
