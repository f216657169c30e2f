"""AdamW over nanoGPT's two parameter groups: matrices decay, vectors (norms, biases) don't."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from trainer.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW, eps 1e-8; the groups' order and content are those of a nanoGPT checkpoint.

    Fused, but for parity mode on a CPU: nanoGPT fuses on CUDA alone, and 100 steps of the two drift 4e-4 nats apart.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=1e-8, fused=_fuses(model, config)
    )


def apply_settings(optimizer: AdamW, model: nn.Module, config: TrainConfig) -> None:
    """Give a loaded optimizer this config's weight decay and betas, and this machine's implementation.

    A checkpoint brings its own along, and nanoGPT trains on with those whatever its config says.
    """
    matrices, vectors = optimizer.param_groups
    matrices["weight_decay"], vectors["weight_decay"] = config.weight_decay, 0.0
    for group in optimizer.param_groups:
        group["betas"] = (config.beta1, config.beta2)
        group["fused"], group["foreach"] = _fuses(model, config), None


def _fuses(model: nn.Module, config: TrainConfig) -> bool:
    return config.sampling != "nanogpt" or next(model.parameters()).device.type == "cuda"


def set_lr(optimizer: AdamW, lr: float) -> None:
    """Set the learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr
