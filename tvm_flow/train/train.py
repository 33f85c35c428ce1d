"""Everything in ``weights/`` from Fashion-MNIST and MiniLM, with one command (scripts/train_demo).

1. Captions: MiniLM tokens, standardised.
2. Autoencoder.
3. Judge, on images of its own.
4. Latents of rendered clips.
5. Rectified flow; its moving average is what ships.
6. Scores over generated clips.

Each part is skipped when its file is there; the flow goes on from its last saved state. With ``--model STDiT`` the last
two are a model of Open-Sora v1.0's kind, which predicts noise, its sampler, and its loss.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from tvm_flow.artifact import atomic_path, write_json
from tvm_flow.demo.assets import Captions, demo_sampler, load_captions, load_vae
from tvm_flow.demo.clips import FRAMES, SIZE, read_garments, typical
from tvm_flow.demo.vae import LATENT_CHANNELS, VAE
from tvm_flow.model import AnyModel, STDiT, STDiT3, STDiT3Config, STDiTConfig
from tvm_flow.quality.evaluation import FloatDemo, evaluate
from tvm_flow.quality.judge import load_judge
from tvm_flow.sampler import SamplerConfig
from tvm_flow.train.train_captions import MAX_LENGTH, embed_captions
from tvm_flow.train.train_data import LatentClips, encode_clips
from tvm_flow.train.train_flow import FPS, FlowTraining, held_out_loss, train_flow
from tvm_flow.train.train_judge import real_clips, train_judge
from tvm_flow.train.train_vae import psnr, random_frames, train_vae

DEMO_CONFIG = STDiT3Config(
    depth=4,
    hidden=96,
    heads=4,
    in_channels=LATENT_CHANNELS,
    caption_channels=384,
    model_max_length=MAX_LENGTH,
    input_sq_size=32,
)
STDIT_CONFIG = STDiTConfig(
    depth=4, hidden=96, heads=4, in_channels=LATENT_CHANNELS, caption_channels=384, model_max_length=MAX_LENGTH
)
STDIT_SAMPLER = SamplerConfig(*(20, 3.0, FPS, FRAMES, SIZE, SIZE), name="ddim", guided_channels=LATENT_CHANNELS)
TYPICAL = 0.5  # share of each class, nearest to its mean, that the generator learns from
CLIPS_PER_SCENE = 100


def train(output: Path, run: FlowTraining, kind: str = "STDiT3") -> dict[str, object]:
    """Train what ``output`` lacks, write it there, and return what was measured; ``kind`` is STDiT3 or STDiT.

    Raises ConfigError when the data set or the text encoder is not installed.
    """
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "captions.safetensors").exists():
        embed_captions(output / "captions.safetensors")
    garments = typical(read_garments("generator"), TYPICAL)
    if not (output / "vae.safetensors").exists():
        train_vae(garments, output / "vae.safetensors", seed=run.seed)
    if not (output / "judge.safetensors").exists():
        train_judge(read_garments("judge"), output / "judge.safetensors", seed=run.seed)
    captions, vae = load_captions(output), load_vae(output)
    clips = encode_clips(garments, vae, CLIPS_PER_SCENE, run.seed)
    if kind == "STDiT":
        return {"run": asdict(run), **_train_stdit(clips, captions, vae, run, output)}
    torch.manual_seed(run.seed)
    model = STDiT3(DEMO_CONFIG)
    ema = train_flow(model, clips, captions.tokens, captions.lengths, run, output / "flow.pt")
    save_model(ema, output)
    return {"run": asdict(run), **measure(ema, vae, captions, output)}


def _train_stdit(
    clips: LatentClips, captions: Captions, vae: VAE, run: FlowTraining, output: Path
) -> dict[str, object]:
    torch.manual_seed(run.seed)
    tables = captions.tokens, captions.lengths
    ema = train_flow(STDiT(STDIT_CONFIG), clips, *tables, run, output / "noise.pt")
    save_model(ema, output)
    write_json(output / "sampler.yaml", STDIT_SAMPLER.to_dict())  # JSON is YAML
    held_out = encode_clips(typical(read_garments("test"), TYPICAL), vae, 4, seed=2)
    return {"held-out noise loss": held_out_loss(ema, held_out, *tables)}


def save_model(model: AnyModel, output: Path) -> None:
    """Write ``model`` as a checkpoint folder: config.json and model.safetensors in fp16."""
    write_json(output / "config.json", model.config.to_dict())
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(output / "model.safetensors") as path:
        save_file(state, path, metadata={"format": "pt"})


def measure(model: STDiT3, vae: VAE, captions: Captions, folder: Path) -> dict[str, object]:
    """Every figure of the model card, on images that neither the generator nor the judge has seen."""
    test, judge = read_garments("test"), load_judge(folder)
    videos, prompts = real_clips(test, 960, seed=1)
    held_out = encode_clips(typical(test, TYPICAL), vae, 4, seed=2)
    frames = random_frames(test, 512, torch.Generator().manual_seed(1))
    return {
        "judge on real test clips": judge.score(videos, prompts),
        "autoencoder, dB on test frames": psnr(vae, frames),
        "held-out flow loss": held_out_loss(model, held_out, captions.tokens, captions.lengths),
        "judge on 288 generated clips": evaluate(
            FloatDemo(model.eval(), captions, vae, demo_sampler()), judge, len(captions), seed=5
        ),
    }


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("artifacts/train_demo"), help="folder to fill")
    parser.add_argument("--steps", type=int, default=9400, help="optimizer steps of the flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", choices=("STDiT3", "STDiT"), default="STDiT3", help="the second is Open-Sora v1.0's")
    options = parser.parse_args()
    report = train(options.output, FlowTraining(steps=options.steps, seed=options.seed), options.model)
    write_json(options.output / "report.json", report)
    print((options.output / "report.json").read_text())


if __name__ == "__main__":
    main()
