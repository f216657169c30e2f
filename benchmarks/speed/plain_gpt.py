"""A GPT from torch's stock parts, with the AdamW and the random windows of a plain nanoGPT-style loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import TrainConfig


class PlainBlock(nn.Module):
    """A transformer block."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        C = config.n_embd
        self.n_head, self.dropout = config.n_head, config.dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.c_attn, self.attn_proj = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)
        self.attn_dropout, self.mlp_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        q, k, v = self.c_attn(self.ln_1(x_BTC)).split(C, dim=2)
        q, k, v = (part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        x_BTC = x_BTC + self.attn_dropout(self.attn_proj(y))
        hidden = F.gelu(self.c_fc(self.ln_2(x_BTC)))
        return x_BTC + self.mlp_dropout(self.mlp_proj(hidden))


class PlainGPT(nn.Module):
    """The same function as the trainer's model."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(PlainBlock(config) for _ in range(config.n_layer)))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)
        self.wte.weight = self.lm_head.weight

    def forward(self, x_BT: Tensor, y_BT: Tensor) -> Tensor:
        x_BTC = self.drop(self.wte(x_BT) + self.wpe(torch.arange(x_BT.shape[1], device=x_BT.device)))
        logits_BTV = self.lm_head(self.ln_f(self.blocks(x_BTC)))
        return F.cross_entropy(logits_BTV.view(-1, logits_BTV.shape[-1]), y_BT.view(-1))


def plain_adamw(model: PlainGPT, config: TrainConfig, *, fused: bool | None = None) -> torch.optim.AdamW:
    """Return torch's default AdamW, with weight decay on matrices only. nanoGPT's is `fused` on a card."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=fused)


def random_windows(tokens: np.ndarray, *, block_size: int, windows: int) -> tuple[Tensor, Tensor]:
    """Draw random windows of tokens; return the inputs and the targets, (windows, block_size) each."""
    T = block_size
    starts = torch.randint(len(tokens) - T, (windows,)).tolist()
    x_BT = torch.stack([torch.from_numpy(tokens[start : start + T].astype(np.int64)) for start in starts])
    y_BT = torch.stack([torch.from_numpy(tokens[start + 1 : start + 1 + T].astype(np.int64)) for start in starts])
    return x_BT, y_BT
