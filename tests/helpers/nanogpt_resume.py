"""nanoGPT's resume, written anew: model, optimizer and schedule as its train.py sets them up from a config and ckpt.pt.

The model has nanoGPT's names, so that a checkpoint loads strictly. It shares no code with the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]


class _Norm(nn.Module):
    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, *, bias: bool) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=-1))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        weights = F.dropout(scores.masked_fill(future, -math.inf).softmax(-1), self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).flatten(-2)
        return F.dropout(self.c_proj(mixed), self.dropout, self.training)


class _Mlp(nn.Module):
    def __init__(self, width: int, dropout: float, *, bias: bool) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.c_proj(F.gelu(self.c_fc(x))), self.dropout, self.training)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, *, bias: bool) -> None:
        super().__init__()
        self.ln_1, self.attn = _Norm(width, bias=bias), _Attention(width, heads, dropout, bias=bias)
        self.ln_2, self.mlp = _Norm(width, bias=bias), _Mlp(width, dropout, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class _Model(nn.Module):
    def __init__(
        self, *, n_layer: int, n_head: int, n_embd: int, block_size: int, bias: bool, vocab_size: int, dropout: float
    ) -> None:
        super().__init__()
        blocks = [_Block(n_embd, n_head, dropout, bias=bias) for _ in range(n_layer)]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd),
                "wpe": nn.Embedding(block_size, n_embd),
                "h": nn.ModuleList(blocks),
                "ln_f": _Norm(n_embd, bias=bias),
            }
        )
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.dropout = dropout

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        parts = self.transformer
        h = F.dropout(parts.wte(x) + parts.wpe(torch.arange(x.shape[1])), self.dropout, self.training)
        for block in parts.h:
            h = block(h)
        return F.cross_entropy(self.lm_head(parts.ln_f(h)).flatten(0, 1), y.flatten())


class Resumed:
    """A run of nanoGPT that resumes from out_dir, with the globals that its config leaves (`nanogpt_configurator`)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        assert settings["init_from"] == "resume"
        saved = torch.load(Path(settings["out_dir"], "ckpt.pt"), weights_only=True)
        shape = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
        self.model = _Model(**{key: saved["model_args"][key] for key in shape}, dropout=settings["dropout"])
        self.model.load_state_dict(saved["model"])
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings["weight_decay"]},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        betas = settings["beta1"], settings["beta2"]
        self.optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], betas=betas)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.iter_num: int = saved["iter_num"]
        self.best_val_loss = float(saved["best_val_loss"])
        self.settings = settings

    def rate(self, it: int) -> float:
        """Return the learning rate of an iteration."""
        s = self.settings
        if not s["decay_lr"]:
            return float(s["learning_rate"])
        warmup, end, peak, floor = s["warmup_iters"], s["lr_decay_iters"], s["learning_rate"], s["min_lr"]
        if it < warmup:
            return float(peak * (it + 1) / (warmup + 1))
        if it > end:
            return float(floor)
        return float(floor + (peak - floor) * (1 + math.cos(math.pi * (it - warmup) / (end - warmup))) / 2)

    def loss_on(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss of equally large batches without dropout, nats per token."""
        self.model.eval()
        with torch.no_grad():
            losses = [float(self.model(x, y)) for x, y in batches]
        self.model.train()
        return sum(losses) / len(losses)

    def updates(self, iterations: Sequence[Sequence[Batch]]) -> list[float]:
        """Train an iteration on each list of micro-batches, and return their mean losses."""
        means = []
        for micro_batches in iterations:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(self.iter_num)
            losses = []
            for x, y in micro_batches:
                loss = self.model(x, y)
                (loss / len(micro_batches)).backward()
                losses.append(float(loss.detach()))
            if self.settings["grad_clip"]:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["grad_clip"])
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.iter_num += 1
            means.append(sum(losses) / len(losses))
        return means
