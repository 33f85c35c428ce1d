"""STDiT, the float reference: Open-Sora v1.0's video diffusion transformer in plain PyTorch.

One forward, step by step:
1. patchify the latent into T frames of S tokens and add the 2D position embedding, equal for all frames;
2. embed the timestep into t_emb, and t_emb into t0, the six modulation vectors of every block;
3. project the caption;
4. run the blocks: spatial attention, temporal attention, cross-attention, MLP;
5. modulate by t_emb, project to patches and put them together.

Unlike STDiT3, one block has both attentions; temporal and cross-attention read the raw residual; frames are told
apart by a sin-cos embedding in the first block; q and k are neither normalised nor rotated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tvm_flow.model.config import STDiTConfig
from tvm_flow.model.layers import CaptionEmbedder, CrossAttention, Mlp, ScalarEmbedder, SelfAttention, modulate
from tvm_flow.model.positions import spatial_embedding, temporal_embedding
from tvm_flow.model.tokens import FinalLayer, PatchEmbed, Video, VideoTransformer, across_frames, within_frames


class STDiTBlock(nn.Module):
    """Attention within frames, across frames and to the caption, then the MLP."""

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, config.hidden) / config.hidden**0.5)
        self.attn = SelfAttention(config.hidden, config.heads, qk_norm=False)
        self.cross_attn = CrossAttention(config.hidden, config.heads)
        self.mlp = Mlp(config.hidden, config.mlp_hidden, config.hidden)
        self.attn_temp = SelfAttention(config.hidden, config.heads, qk_norm=False)

    def forward(
        self, x: Tensor, y: Tensor, bias: Tensor, t0: Tensor, frames: int, times: Tensor | None = None
    ) -> Tensor:
        """x [B, T*S, C], y [B, L, C], bias [B, 1, 1, L], t0 [B, 6*C], times [T, C] or None -> [B, T*S, C].

        ``times`` is added to what temporal attention reads, and not to the residual.
        """
        vectors = self.scale_shift_table + t0.reshape(len(t0), 6, -1)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = vectors[:, :, None].unbind(1)
        x = x + gate_msa * within_frames(self.attn, modulate(x, shift_msa, scale_msa), frames)
        places = x.shape[1] // frames
        read = x if times is None else x + times.repeat_interleave(places, dim=0)
        # The same gate as above: released weights were trained so.
        x = x + gate_msa * across_frames(self.attn_temp, read, frames)
        x = x + self.cross_attn(x, y, bias)
        return x + gate_mlp * self.mlp(modulate(x, shift_mlp, scale_mlp))  # type: ignore[no-any-return]


class STDiT(VideoTransformer):
    """The float reference model; state-dict keys and shapes are those of the released checkpoints.

    Their two position tables, ``pos_embed`` and ``pos_embed_temporal``, are recomputed for any size instead.
    """

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        self.config: STDiTConfig = config
        dim = config.hidden
        self.x_embedder = PatchEmbed(config)
        self.t_embedder = ScalarEmbedder(dim)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.y_embedder = CaptionEmbedder(config.caption_channels, dim, config.model_max_length)
        self.blocks = nn.ModuleList(STDiTBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def t_emb(self, t: Tensor) -> Tensor:
        """t [B] in 0..999 -> [B, hidden]; feeds ``t0`` and the final layer."""
        return self.t_embedder(t)  # type: ignore[no-any-return]

    def position_embedding(self, h: int, w: int) -> Tensor:
        """float32 [h * w, hidden] for ``h`` x ``w`` tokens; the released ``pos_embed`` is that of a square."""
        return spatial_embedding(h, w, self.config.hidden, self.config.space_scale)

    def time_embedding(self, frames: int) -> Tensor:
        """float32 [frames, hidden], the released ``pos_embed_temporal``; only block 0 reads it."""
        return temporal_embedding(frames, self.config.hidden, self.config.time_scale)

    def forward(self, z: Tensor, t: Tensor, y: Tensor, mask: Tensor, _video: Video | None = None) -> Tensor:
        """Predict noise (first ``in_channels``) and where its variance lies, in -1..1 when trained.

        z [B, C, T, H, W]; t [B] in 0..999; y [B, L, caption_channels]; mask [B, L] bool with at least one
        True a row -> float32 [B, 2*C, T, H, W]. The video, which STDiT3 reads, has no influence.
        """
        patches = self.x_embedder(z)
        frames, h, w = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2).reshape(len(z), frames, h * w, -1)
        x = (x + self.position_embedding(h, w).to(x)).flatten(1, 2)
        t_emb = self.t_emb(t)
        t0, bias, times = self.t0(t_emb), self.caption_bias(mask), self.time_embedding(frames).to(x)
        caption = self.y_embedder(y.to(x.dtype))
        for index, block in enumerate(self.blocks):
            x = block(x, caption, bias, t0, frames, times if index == 0 else None)
        return self.unpatchify(self.final_layer(x, t_emb), (frames, h, w), z.shape[2:]).float()
