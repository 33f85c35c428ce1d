"""STDiT3, the float reference: Open-Sora v1.2's video diffusion transformer in plain PyTorch.

One forward, step by step:
1. patchify the latent into T frames of S tokens and add the 2D position embedding, equal for all frames;
2. embed timestep and frame rate into t_emb, and t_emb into t0, the six modulation vectors of every block;
3. project the caption;
4. run spatial and temporal blocks in turn: attention, cross-attention, MLP;
5. modulate by t_emb, project to patches and put them together.

What is constant at a fixed step (t_emb, t0, positions, rope) has its own method, because the quantizer folds
it away.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from tvm_flow.model.config import STDiT3Config
from tvm_flow.model.layers import CaptionEmbedder, CrossAttention, Mlp, ScalarEmbedder, SelfAttention, modulate
from tvm_flow.model.positions import Rope, spatial_embedding
from tvm_flow.model.tokens import FinalLayer, PatchEmbed, Video, VideoTransformer, across_frames, within_frames

RopeTables = tuple[Tensor, Tensor]


class STDiT3Block(nn.Module):
    """One block: a temporal one attends over frames at each place, a spatial one within each frame."""

    def __init__(self, config: STDiT3Config, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.scale_shift_table = nn.Parameter(torch.randn(6, config.hidden) / config.hidden**0.5)
        self.attn = SelfAttention(config.hidden, config.heads)
        self.cross_attn = CrossAttention(config.hidden, config.heads)
        self.mlp = Mlp(config.hidden, config.mlp_hidden, config.hidden)

    def forward(self, x: Tensor, y: Tensor, bias: Tensor, t0: Tensor, frames: int, rope: RopeTables) -> Tensor:
        """x [B, T*S, C], y [B, L, C], bias [B, 1, 1, L], t0 [B, 6*C] -> [B, T*S, C]."""
        vectors = self.scale_shift_table + t0.reshape(len(t0), 6, -1)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = vectors[:, :, None].unbind(1)
        x = x + gate_msa * self._attend(modulate(x, shift_msa, scale_msa), frames, rope)
        x = x + self.cross_attn(x, y, bias)
        return x + gate_mlp * self.mlp(modulate(x, shift_mlp, scale_mlp))  # type: ignore[no-any-return]

    def _attend(self, x: Tensor, frames: int, rope: RopeTables) -> Tensor:
        if self.temporal:
            return across_frames(partial(self.attn, rope=rope), x, frames)
        return within_frames(self.attn, x, frames)


class STDiT3(VideoTransformer):
    """The float reference model; state-dict keys and shapes are those of the released checkpoints."""

    def __init__(self, config: STDiT3Config) -> None:
        super().__init__()
        self.config: STDiT3Config = config
        dim = config.hidden
        self.x_embedder = PatchEmbed(config)
        self.t_embedder = ScalarEmbedder(dim)
        self.fps_embedder = ScalarEmbedder(dim)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.y_embedder = CaptionEmbedder(config.caption_channels, dim, config.model_max_length)
        self.rope = Rope(config.head_dim)
        self.spatial_blocks = nn.ModuleList(STDiT3Block(config, temporal=False) for _ in range(config.depth))
        self.temporal_blocks = nn.ModuleList(STDiT3Block(config, temporal=True) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def t_emb(self, t: Tensor, fps: float | Tensor) -> Tensor:
        """t [B] in 0..1000 and fps (a number or [B]) -> [B, hidden]; feeds ``t0`` and the final layer."""
        rate = torch.as_tensor(fps, dtype=torch.float32, device=t.device).expand(t.shape)
        return self.t_embedder(t) + self.fps_embedder(rate)  # type: ignore[no-any-return]

    def position_embedding(self, h: int, w: int, height: float, width: float) -> Tensor:
        """float32 [h * w, hidden] for ``h`` x ``w`` tokens of a video of ``height`` x ``width`` pixels."""
        scale = (height * width) ** 0.5 / self.config.input_sq_size
        return spatial_embedding(h, w, self.config.hidden, scale, base_size=round((h * w) ** 0.5))

    def forward(self, z: Tensor, t: Tensor, y: Tensor, mask: Tensor, video: Video) -> Tensor:
        """Predict velocity (first ``in_channels``) and an unused variance.

        z [B, C, T, H, W]; t [B] in 0..1000; y [B, L, caption_channels]; mask [B, L] bool with at least one
        True a row -> float32 [B, 2*C, T, H, W].
        """
        patches = self.x_embedder(z)
        frames, h, w = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2).reshape(len(z), frames, h * w, -1)
        x = (x + self.position_embedding(h, w, video.height, video.width).to(x)).flatten(1, 2)
        t_emb = self.t_emb(t, video.fps)
        t0, bias, rope = self.t0(t_emb), self.caption_bias(mask), self.rope.tables(frames)
        caption = self.y_embedder(y.to(x.dtype))
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = spatial(x, caption, bias, t0, frames, rope)
            x = temporal(x, caption, bias, t0, frames, rope)
        return self.unpatchify(self.final_layer(x, t_emb), (frames, h, w), z.shape[2:]).float()
