"""Every stage on the model that ships: calibrated on one prompt, two of its twenty steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import safe_open
from support.small_demo import PROMPT, RECIPE, STEPS, SmallDemo
from support.stored_figures import as_read_back
from torch import Tensor

from tvm_flow.calibrate import load_ranges
from tvm_flow.check.calls import ExactnessReport
from tvm_flow.compile.options import CompileOptions
from tvm_flow.demo import LATENT_SHAPE
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import bundle_bytes, read_golden, verify_bundle
from tvm_flow.pack.index import read_index
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.pipeline.generate import Generation, generate_latents, noise_for
from tvm_flow.pipeline.stages import calibrate_stage, compile_stage, quantize_stage
from tvm_flow.quantize.fake import FakeQuant, fake_velocity
from tvm_flow.quantize.file import load_quantized
from tvm_flow.run import Bundle
from tvm_flow.sampler import Velocity, model_velocity
from tvm_flow.sampler.loop import guide


def two_steps(velocity: Velocity, z: Tensor, demo: SmallDemo) -> np.ndarray:
    """The first two Euler steps of `tvm_flow.sampler.sample`."""
    for step, (t, update) in enumerate(zip(demo.exported.timesteps, demo.exported.updates, strict=True)):
        cond, uncond = velocity(z, step, float(t))
        z = z + guide(cond, uncond, demo.source.sampler.cfg_scale) * float(update[1])
    return z.numpy()


class TestStages:
    def test_calibrate_saw_every_layer(self, demo: SmallDemo) -> None:
        ranges = load_ranges(demo.ranges)
        assert [prompt.text for prompt in ranges.prompts] == [PROMPT]
        assert set(ranges.layers) == set(load_quantized(demo.quantized).layers)

    def test_quantize_left_no_weight_in_float(self, demo: SmallDemo) -> None:
        layers = load_quantized(demo.quantized).layers
        assert len(layers) == demo.source.model.config.depth * 14
        for name, layer in layers.items():
            assert layer.weight_q is not None and layer.weight_q.dtype == np.int8, name
            assert layer.weight_f is None, name

    def test_export_holds_every_quantized_weight_as_int8_once(self, demo: SmallDemo) -> None:
        (first, *_), *_ = demo.exported.graphs
        names = {f"{name}.weight_q" for name in load_quantized(demo.quantized).layers}
        graph = onnx.load(str(first), load_external_data=False).graph
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        assert {name for name, kind in kinds.items() if kind == onnx.TensorProto.INT8} >= names
        assert not {name.removesuffix("_q") for name in names} & set(kinds)
        assert len(list(demo.exported.folder.glob("step_*.onnx"))) == 2 * len(STEPS)
        assert len(list(demo.exported.folder.glob("weights*"))) == 1

    def test_compile_makes_one_group_and_compares_all_of_it(self, demo: SmallDemo) -> None:
        compiled = demo.compiled
        assert (compiled.groups, compiled.left_in_float) == (1, ())
        assert compiled.exactness["calls"] == compiled.exactness["expected_calls"]
        report = ExactnessReport(**{key: compiled.exactness[key] for key in vars(ExactnessReport())})
        assert min(report.calls, report.accumulators, report.quantized, report.floats, report.constants) > 0
        assert report.near_ties < report.quantized / 10_000
        assert 0 < report.worst_float <= 1
        assert compiled.liveness_bytes <= compiled.arena_bytes <= 1.2 * compiled.liveness_bytes

    def test_the_bundle_holds_no_second_copy_of_the_weights(self, demo: SmallDemo) -> None:
        """int8 weights, what no recipe quantizes in float, and a tenth for tables: no room for another copy."""
        quantized = load_quantized(demo.quantized)
        int8 = sum(layer.weight_q.size for layer in quantized.layers.values() if layer.weight_q is not None)
        floats = sum(4 * value.size for value in quantized.params.values())
        positions = sum(4 * table.size for table in quantized.tables.values())
        first = read_index(demo.compiled.bundle / "steps.bin").weights_first
        size = (demo.compiled.bundle / "weights.bin").stat().st_size - first
        assert int8 < size < 1.1 * int8 + floats + positions

    def test_any_reader_of_safetensors_opens_the_weights(self, demo: SmallDemo) -> None:
        """Packed weights are there as what they are: as many bytes of int8 as the model has."""
        path, index = demo.compiled.bundle / "weights.bin", read_index(demo.compiled.bundle / "steps.bin")
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert index.weights_first % 16384 == 0 < index.weights_first
        assert sum(tensor.nbytes for tensor in tensors.values()) == path.stat().st_size - index.weights_first
        quantized = load_quantized(demo.quantized)
        int8 = sum(layer.weight_q.size for layer in quantized.layers.values() if layer.weight_q is not None)
        assert sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype in (np.int8, np.uint8)) >= int8
        assert sum(name.startswith("padding.") for name in tensors) < len(tensors) / 3

    def test_the_bundle_is_verified_and_gives_its_golden_output(self, demo: SmallDemo) -> None:
        assert verify_bundle(demo.compiled.bundle).steps == len(STEPS)
        assert bundle_bytes(demo.compiled.bundle) > 0
        golden = read_golden(demo.compiled.bundle)
        for threads in (1, 2):
            with Bundle.open(demo.compiled.bundle, threads=threads) as bundle:
                bundle.verify()
                again = bundle.generate(golden.noise, golden.cond, golden.uncond)
            assert again.tobytes() == golden.latents.tobytes()


class TestQuality:
    def test_velocity_equals_the_fake_quantized_one(self, demo: SmallDemo) -> None:
        """Measured against float64 sums: 150 dB where no code tips at a tie, 63 to 80 dB where one does, early or late.
        int8 itself is 24 dB from float here, so that a wrong scale or constant cannot hide."""
        golden, quantized = read_golden(demo.compiled.bundle), load_quantized(demo.quantized)
        z, mask = torch.from_numpy(golden.noise)[None], torch.from_numpy(golden.cond.mask == 0)[None]
        with Bundle.open(demo.compiled.bundle, threads=1) as bundle:
            for step in STEPS:
                for branch, prompt in enumerate((golden.cond, golden.uncond)):
                    fake = FakeQuant(quantized, step, branch, torch.float64)
                    wanted = fake(z, torch.from_numpy(prompt.tokens)[None], mask)[0, : len(golden.noise)].numpy()
                    ours = bundle.velocity(step, branch, golden.noise, prompt)
                    assert psnr_db(wanted, ours) > 45, (step, branch)

    def test_latents_stay_near_float(self, demo: SmallDemo) -> None:
        """Measured: 86 dB from the fake-quantized loop, 79 dB from float, after two of twenty steps."""
        noise = noise_for(LATENT_SHAPE, [7])
        ours = generate_latents(
            demo.compiled.bundle, [PROMPT], noise, demo.source.embed, Generation(threads=1), progress=False
        )
        tokens, mask = demo.source.embed([PROMPT])
        fake = two_steps(fake_velocity(load_quantized(demo.quantized), tokens, mask), torch.from_numpy(noise), demo)
        exact = model_velocity(demo.source.model, tokens, mask, demo.source.sampler)
        in_float = two_steps(exact, torch.from_numpy(noise), demo)
        assert psnr_db(fake, ours) > 70
        assert 60 < psnr_db(in_float, ours) < 100

    def test_workers_and_company_do_not_change_a_bit(self, demo: SmallDemo) -> None:
        prompts = [PROMPT, "green sandal going right", "video of a blue bag moving up"]
        noise, bundle = noise_for(LATENT_SHAPE, [1, 2, 3]), demo.compiled.bundle
        one = generate_latents(bundle, prompts, noise, demo.source.embed, Generation(1, threads=1), progress=False)
        two = generate_latents(bundle, prompts, noise, demo.source.embed, Generation(2, threads=1), progress=False)
        alone = generate_latents(bundle, prompts[2:], noise[2:], demo.source.embed, Generation(5), progress=False)
        assert one.tobytes() == two.tobytes()
        assert one[2:].tobytes() == alone.tobytes()
        assert len({row.tobytes() for row in one}) == 3

    def test_the_prompt_matters(self, demo: SmallDemo) -> None:
        noise = noise_for(LATENT_SHAPE, [1, 1])
        prompts = [PROMPT, "green sandal going right"]
        a, b = generate_latents(demo.compiled.bundle, prompts, noise, demo.source.embed, progress=False)
        assert a.tobytes() != b.tobytes()


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_of_every_stage_rewrites_nothing(demo: SmallDemo) -> None:
    before = snapshot(demo.folder)
    calibrate_stage(demo.source, demo.prompts, demo.ranges)
    quantize_stage(demo.source, demo.ranges, RECIPE, demo.quantized)
    exported = export_stage(demo.source, demo.quantized, demo.prompts, demo.folder / "export", STEPS)
    again = compile_stage(demo.folder / "export", "host", demo.folder / "bundle", CompileOptions(threads=1))
    assert snapshot(demo.folder) == before
    assert again == as_read_back(demo.compiled)
    assert exported.graphs == demo.exported.graphs
