"""Options that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_flow.cli.argument_types import at_least, latent


def source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="'demo', or a checkpoint folder or file")
    parser.add_argument("--config", type=Path, metavar="FILE", help="config.json of a checkpoint that has none")
    parser.add_argument("--sampler", type=Path, help="YAML of the step grid, for a model other than the demo")
    parser.add_argument("--latent", type=latent, metavar="C,T,H,W", help="shape of its latent")
    embeddings_option(parser)


def embeddings_option(parser: argparse.ArgumentParser) -> None:
    names, text = ("--prompt-embeddings", "--captions"), "what embed wrote, or a folder with captions.safetensors"
    parser.add_argument(*names, dest="captions", type=Path, metavar="FILE", help=text)


def autoencoder_option(parser: argparse.ArgumentParser, purpose: str) -> None:
    parser.add_argument("--autoencoder", type=Path, help=f"local folder of Open-Sora's VAE, {purpose}")


def shard_options(parser: argparse.ArgumentParser, tasks: str) -> None:
    place = parser.add_mutually_exclusive_group()
    text = f"share the {tasks} among N processes of this machine (needs the extra cluster)"
    place.add_argument("--workers", type=at_least(1), metavar="N", help=text)
    text = f"share the {tasks} among the workers of Dask's scheduler there, like tcp://10.0.0.1:8786"
    place.add_argument("--scheduler", metavar="ADDRESS", help=text)


def threads_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=at_least(0), default=0, help="worker threads; 0 for every core")
