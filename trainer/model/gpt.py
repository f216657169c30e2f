"""GPT-2 as nanoGPT builds it: the same modules in the same order, so that the same seed draws the same weights.

Shapes: B sequences, T tokens of context, N = B*T, C width (n_embd), V vocabulary. Training returns only the loss,
because a batch's logits are the largest tensor in memory and nothing needs them.

Training on a CPU in float32 uses this package's kernels for dropout, attention and the loss. They compute the same
function in less time, up to rounding and dropout's rate (to 1/256). Cards and parity mode use torch's kernels.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import TrainConfig
from trainer.model import flash
from trainer.model.attention import causal_attention
from trainer.model.chunks import LONGEST_WRITTEN_OUT
from trainer.model.dropout import dropout
from trainer.model.loss import linear_cross_entropy, token_losses

INIT_STD = 0.02


def _uses_cpu_kernels(config: TrainConfig, x: Tensor) -> bool:
    on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return on_cpu and config.sampling != "nanogpt"


def _rates_are_inputs(config: TrainConfig) -> bool:
    """Whether the model is being compiled with dropout rates as inputs; a number would be compiled as a constant."""
    return torch.compiler.is_compiling() and config.sampling != "nanogpt"


class Dropout(nn.Module):
    """Dropout in training. Its rate on a CPU is rounded to the nearest 1/256 (`trainer.model.dropout`)."""

    rate: Tensor

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.drops = config.dropout > 0.0  # computed here, since a comparison in forward would compile the rate in
        self.register_buffer("rate", torch.tensor(config.dropout), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drops:
            return x
        if _uses_cpu_kernels(self.config, x):
            return dropout(x, self.config.dropout)
        if _rates_are_inputs(self.config):
            return x * (torch.rand_like(x, dtype=torch.float32) >= self.rate) / (1.0 - self.rate)
        return F.dropout(x, self.config.dropout)


class LayerNorm(nn.Module):
    """LayerNorm with an optional bias, as in nanoGPT."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x_BTC: Tensor) -> Tensor:
        return F.layer_norm(x_BTC, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    """Causal self-attention over all heads at once."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = Dropout(config)
        self.config = config
        self.rate = torch.tensor(config.dropout, device="cpu")  # not a buffer: flash_attention reads it on the CPU

    def forward(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.resid_dropout(self.c_proj(self._attend(self.c_attn(x_BTC)))))

    def _attend(self, qkv_BTC3: Tensor) -> Tensor:
        B, T, C3 = qkv_BTC3.shape
        n_head, drops = self.config.n_head, self.training and self.resid_dropout.drops
        written_out = drops or (self.training and T <= LONGEST_WRITTEN_OUT)
        if written_out and _uses_cpu_kernels(self.config, qkv_BTC3):
            return causal_attention(qkv_BTC3, n_head=n_head, dropout=self.config.dropout)
        heads = (B, T, n_head, C3 // 3 // n_head)
        q, k, v = (part.view(heads).transpose(1, 2) for part in torch.split(qkv_BTC3, C3 // 3, dim=2))
        if drops and flash.takes(q) and _rates_are_inputs(self.config):
            y = flash.flash_attention(q, k, v, self.rate)
        else:
            p = self.config.dropout if drops else 0.0
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return y.transpose(1, 2).contiguous().view(B, T, C3 // 3)


class MLP(nn.Module):
    """Two linear layers with an exact (erf) GELU between them."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.dropout(self.c_proj(F.gelu(self.c_fc(x_BTC)))))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.attn(self.ln_1(x_BTC))
        return cast(Tensor, x_BTC + self.mlp(self.ln_2(x_BTC)))


class GPT(nn.Module):
    """The model. `config.vocab_size` must be set. The weights are drawn from torch's global generator."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "drop": Dropout(config),
                "h": nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                "ln_f": LayerNorm(config.n_embd, bias=config.bias),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        cast(nn.Embedding, self.transformer["wte"]).weight = self.lm_head.weight
        self.apply(_init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=INIT_STD / math.sqrt(2 * config.n_layer))

    def forward(self, x_BT: Tensor, y_BT: Tensor, *, label_smoothing: float | Tensor = 0.0) -> Tensor:
        """Return the mean cross-entropy of the targets, nats per token (a 0-dim tensor).

        A `label_smoothing` given as a 0-dim tensor on the model's device is an input of the compiled graph. A number
        is compiled as a constant.
        """
        x_NC, y_N = self.hidden(x_BT).flatten(0, 1), y_BT.flatten()
        if isinstance(label_smoothing, Tensor):
            log_p_NV = F.log_softmax(self.lm_head(x_NC), dim=-1)
            loss = F.nll_loss(log_p_NV, y_N)
            return loss + label_smoothing * (-log_p_NV.mean() - loss)
        if _uses_cpu_kernels(self.config, x_NC):
            return linear_cross_entropy(x_NC, self.lm_head.weight, y_N, label_smoothing=label_smoothing)
        return F.cross_entropy(self.lm_head(x_NC), y_N, label_smoothing=label_smoothing)

    def window_losses(self, x_BT: Tensor, y_BT: Tensor) -> Tensor:
        """Return the mean cross-entropy of each sequence, nats per token: (B,). Call it under torch.no_grad()."""
        x_NC, y_N = self.hidden(x_BT).flatten(0, 1), y_BT.flatten()
        if self.config.sampling == "nanogpt":
            losses = F.cross_entropy(self.lm_head(x_NC), y_N, reduction="none")
        else:
            losses = token_losses(x_NC, self.lm_head.weight, y_N)
        return losses.view(y_BT.shape).mean(dim=1)

    def hidden(self, x_BT: Tensor) -> Tensor:
        """Return the input of the output layer: (B, T, C)."""
        positions = torch.arange(x_BT.shape[1], device=x_BT.device)
        x_BTC = self.transformer["drop"](self.transformer["wte"](x_BT) + self.transformer["wpe"](positions))
        for block in cast(nn.ModuleList, self.transformer["h"]):
            x_BTC = block(x_BTC)
        return cast(Tensor, self.transformer["ln_f"](x_BTC))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
