"""The sampler that somebody asks a bundle for, which must be the one that it was made for."""

from __future__ import annotations

from pathlib import Path

from tvm_flow.pack import read_manifest
from tvm_flow.pipeline.source import read_sampler
from tvm_flow.run.info import OTHER_SAMPLER
from tvm_flow.sampler import require_same_sampler
from tvm_flow.sampler.config import SAMPLERS


def require_sampler(
    bundle: Path, sampler: str | None = None, steps: int | None = None, cfg_scale: float | None = None
) -> None:
    """Compare what is asked for with the sampler in the manifest of ``bundle``; what is None is as it is there.

    ``sampler`` is rflow, ddim, iddpm or a YAML file with a whole configuration.

    Raises ConfigError showing both configurations when they differ or the file is bad, BundleError when there is no
    bundle.
    """
    have = dict(read_manifest(bundle).sampler)
    if sampler is None or sampler in SAMPLERS:
        want = have | ({} if sampler is None else {"name": sampler})
    else:
        want = read_sampler(Path(sampler)).to_dict()
    changes = {"steps": steps, "cfg_scale": cfg_scale}
    want |= {key: value for key, value in changes.items() if value is not None}
    require_same_sampler(str(bundle), have, want, OTHER_SAMPLER)
