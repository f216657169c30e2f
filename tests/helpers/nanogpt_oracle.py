"""The oracle of parity mode and of branches: nanoGPT's training run in one function, from torch's stock parts.

It follows nanoGPT's order of draws, evaluations and updates, and shares no code with the trainer. `go_on` trains on
from a checkpoint, with AdamW written out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Oracle(nn.Module):
    def __init__(self, *, layers: int, heads: int, width: int, block: int, vocab: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(block, width)
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            attn, proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            fc, out = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
            self.blocks.append(nn.ModuleList([attn, proj, fc, out]))
        self.head = nn.Linear(width, vocab, bias=False)
        # nanoGPT's order: every Linear and Embedding as constructed, the tied matrix twice, then the projections again
        for layer in [self.head, self.wpe, *(part for parts in self.blocks for part in parts), self.head]:
            nn.init.normal_(layer.weight, std=0.02)
        for parts in self.blocks:
            for part in (parts[1], parts[3]):
                nn.init.normal_(part.weight, std=0.02 / math.sqrt(2 * layers))
        self.wte.weight = self.head.weight
        self.norms = nn.ParameterList(torch.ones(width) for _ in range(2 * layers + 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        B, T = x.shape
        h = F.dropout(self.wte(x) + self.wpe(torch.arange(T)), self.dropout, self.training)
        C = h.shape[-1]
        for index, (attn, proj, fc, out) in enumerate(self.blocks):
            a = F.layer_norm(h, (C,), self.norms[2 * index])
            q, k, v = attn(a).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
            p = self.dropout if self.training else 0.0
            a = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True).permute(0, 2, 1, 3)
            h = h + F.dropout(proj(a.reshape(B, T, C)), self.dropout, self.training)
            m = out(F.gelu(fc(F.layer_norm(h, (C,), self.norms[2 * index + 1]))))
            h = h + F.dropout(m, self.dropout, self.training)
        logits = self.head(F.layer_norm(h, (C,), self.norms[-1]))
        return F.cross_entropy(logits.reshape(B * T, -1), y.reshape(B * T))


@dataclass(frozen=True)
class Trace:
    """The losses and evaluations that nanoGPT would print."""

    losses: list[float]
    evaluations: dict[int, tuple[float, float]]


def run(
    train: np.ndarray, val: np.ndarray, *, layers: int, heads: int, width: int, block: int, vocab: int, dropout: float,
    accumulation: int, batch: int, peak: float, floor: float, warmup: int, decay_end: int, iters: int,
    weight_decay: float, clip: float, interval: int, eval_iters: int,
) -> Trace:  # fmt: skip
    """Train iterations 0 to `iters` inclusive, with evaluations at multiples of `interval`, from one global stream."""
    torch.manual_seed(1337)
    model = _Oracle(layers=layers, heads=heads, width=width, block=block, vocab=vocab, dropout=dropout)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))

    def draw(data: np.ndarray) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(data) - block, (batch,)).tolist()
        rows = np.stack([data[start : start + block + 1] for start in starts]).astype(np.int64)
        return torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, 1:].copy())

    losses: list[float] = []
    evaluations: dict[int, tuple[float, float]] = {}
    x, y = draw(train)
    for step in range(iters + 1):
        if step < warmup:
            rate = peak * (step + 1) / (warmup + 1)
        elif step > decay_end:
            rate = floor
        else:
            rate = floor + (1 + math.cos(math.pi * (step - warmup) / (decay_end - warmup))) / 2 * (peak - floor)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % interval == 0:
            model.eval()
            with torch.no_grad():
                means = [
                    float(np.mean([float(model(*draw(split))) for _ in range(eval_iters)])) for split in (train, val)
                ]
            evaluations[step] = means[0], means[1]
            model.train()
        for _ in range(accumulation):
            loss = model(x, y)
            x, y = draw(train)
            (loss / accumulation).backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return Trace(losses, evaluations)


def go_on(
    form: dict[str, Any], batches: Sequence[tuple[Tensor, Tensor]], *, rates: Sequence[float], weight_decay: float,
    betas: tuple[float, float], clip: float,
) -> list[float]:  # fmt: skip
    """Train on from a checkpoint without biases, one batch an update, and return the losses.

    Moments and their number of updates are the checkpoint's (Loshchilov & Hutter 2019, algorithm 2).
    """
    shape, saved = form["model_args"], form["model"]
    model = _Oracle(
        layers=shape["n_layer"], heads=shape["n_head"], width=shape["n_embd"], block=shape["block_size"],
        vocab=shape["vocab_size"], dropout=0.0,
    )  # fmt: skip
    matrices, vectors = [model.wte.weight, model.wpe.weight], []
    names, vector_names = ["wte.weight", "wpe.weight"], []
    for index, parts in enumerate(model.blocks):
        matrices += [part.weight for part in parts]
        names += [f"h.{index}.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
        vectors += [model.norms[2 * index], model.norms[2 * index + 1]]
        vector_names += [f"h.{index}.ln_1.weight", f"h.{index}.ln_2.weight"]
    parameters, names = [*matrices, *vectors, model.norms[-1]], [*names, *vector_names, "ln_f.weight"]
    state = [form["optimizer"]["state"][number] for number in range(len(parameters))]
    means, squares = [s["exp_avg"].clone() for s in state], [s["exp_avg_sq"].clone() for s in state]
    updates = int(state[0]["step"])
    with torch.no_grad():
        for parameter, name in zip(parameters, names, strict=True):
            parameter.copy_(saved[f"transformer.{name}"])
    losses = []
    for (x, y), rate in zip(batches, rates, strict=True):
        loss = model(x, y)
        gradients = torch.autograd.grad(loss, parameters)
        losses.append(float(loss.detach()))
        updates += 1
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        with torch.no_grad():
            for number, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                clipped = gradient * min(1.0, clip / norm)
                means[number] = betas[0] * means[number] + (1 - betas[0]) * clipped
                squares[number] = betas[1] * squares[number] + (1 - betas[1]) * clipped**2
                if number < len(matrices):
                    parameter *= 1 - rate * weight_decay
                mean, square = means[number] / (1 - betas[0] ** updates), squares[number] / (1 - betas[1] ** updates)
                parameter -= rate * mean / (square.sqrt() + 1e-8)
    return losses
