"""One velocity by torch, in each of the ways in which it runs a model: contenders of `tvm_flow.bench.contenders`.

Each is prepared in a process of its own, so that what it changes of torch, or of the model's code, is nobody else's.
Those that are there for their speed have torch's own fused attention in place of the model's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tvm_flow.bench.step_inputs import StepFiles
from tvm_flow.errors import BuildError
from tvm_flow.model import STDiT, STDiT3, Video, layers, load_checkpoint

Array = npt.NDArray[Any]
Run = Callable[[], Array]
ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
"""Of int8 linears, in order of preference: x86 is torch's own choice among the next two, by the CPU."""


def torch_fp32(files: StepFiles, threads: int) -> Run:
    """The float model as it is."""
    return _run(_loaded(files, threads), files, torch.float32)


def float64(files: StepFiles, threads: int) -> Run:
    """The same in double precision, softmax and norms included."""
    model = _loaded(files, threads).double()
    # This process does nothing else: where the model asks for single precision it gets double.
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    return _run(model, files, torch.float64)


def torch_compiled(files: StepFiles, threads: int) -> Run:
    """Compiled by inductor; raises BuildError where that does not work."""
    model = _fused(_loaded(files, threads))
    run = _run(torch.compile(model, dynamic=False), files, torch.float32)
    try:
        run()
    except Exception as error:
        raise BuildError(f"torch.compile: {_first_line(error)}") from error
    return run


def torch_bf16(files: StepFiles, threads: int) -> Run:
    """Blocks' linears and attention in bfloat16; norms, time and residuals stay in float32, as autocast has it.

    Raises BuildError where torch has no fast products of it: it would go through them number by number for minutes.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise BuildError("torch has no instructions of this CPU for bfloat16: oneDNN takes AVX512 and more for it")
    model = _fused(_loaded(files, threads))
    for name, module in model.named_modules():
        if "blocks." in name and isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    run = _run(model, files, torch.float32)

    def autocast() -> Array:
        with torch.autocast("cpu", torch.bfloat16):
            return run()

    return autocast


def torch_int8(files: StepFiles, threads: int) -> Run:
    """Blocks' linears in int8, weights by channel, inputs by their range at every call; raises BuildError."""
    engine = next((each for each in ENGINES if each in torch.backends.quantized.supported_engines), None)
    if engine is None:
        raise BuildError("torch has no engine of int8 linears here")
    torch.backends.quantized.engine = engine
    model = _fused(_loaded(files, threads))
    chosen = {n for n, m in model.named_modules() if "blocks." in n and isinstance(m, nn.Linear)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what torch has without another package
        config = torch.ao.quantization.per_channel_dynamic_qconfig
        made = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            model, dict.fromkeys(chosen, config), torch.qint8
        )
    return _run(made, files, torch.float32)


def _loaded(files: StepFiles, threads: int) -> STDiT | STDiT3:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return load_checkpoint(files.checkpoint)


def _fused(model: STDiT | STDiT3) -> STDiT | STDiT3:
    """``model``, whose attention is torch's own from now on."""
    layers.attend = _attend
    return model


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """`tvm_flow.model.layers.attend` by torch's kernel."""
    mask = None if bias is None else bias.to(q.dtype).expand(*q.shape[:-1], k.shape[-2])
    return nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


def _run(model: Callable[..., Tensor], files: StepFiles, kind: torch.dtype) -> Run:
    inputs = np.load(files.inputs)
    z, y = (torch.from_numpy(inputs[name]).to(kind)[None] for name in ("z", "y"))
    mask = torch.arange(y.shape[1])[None] < int(inputs["length"])
    t = torch.tensor([float(inputs["t"])], dtype=kind)
    video = Video(float(inputs["fps"]), float(inputs["height"]), float(inputs["width"]))

    def run() -> Array:
        out = model(z, t, y, mask, video)
        return np.asarray(out[0, : z.shape[1]].numpy())

    return run


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
