"""AdamW with nanoGPT's two parameter groups: matrices with weight decay, vectors (norms, biases) without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW

from trainer.config import TrainConfig
from trainer.errors import CheckpointError

TIED = "lm_head.weight"
"""the output layer's name in a model's state; its tensor is the token embedding's, and the optimizer sees it once"""

Moments = dict[str, dict[str, Any]]
"""AdamW's state by parameter: exp_avg, exp_avg_sq and step"""


def make_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    """Return AdamW with eps 1e-8 and with the groups of a nanoGPT checkpoint, in the same order.

    It is fused, except in parity mode on a CPU: nanoGPT fuses on CUDA only, and after 100 steps the losses of the two
    implementations differ by 4e-4 nats.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=1e-8, fused=_fuses(model, config)
    )


def parameter_names(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the parameters of a model's state in the optimizer's order: matrices, then vectors."""
    names = [name for name in weights if name != TIED]
    return [*(n for n in names if weights[n].dim() >= 2), *(n for n in names if weights[n].dim() < 2)]


def named_moments(optimizer: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Moments:
    """Return a saved optimizer's moments by parameter, for the weights it was saved with. Empty before any update.

    Raises CheckpointError if they don't fit the weights in nanoGPT's order.
    """
    names = parameter_names(weights)
    try:
        numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
        saved = {number: dict(moments) for number, moments in optimizer["state"].items()}
        moments = {name: saved[number] for name, number in zip(names, numbers, strict=True) if number in saved}
        fit = all(moments[name]["exp_avg"].shape == weights[name].shape for name in moments)
    except (AttributeError, KeyError, TypeError, ValueError):
        fit = False
    if not fit:
        raise CheckpointError(
            "the optimizer's moments don't fit the weights: they must be AdamW's, in two groups (matrices, then "
            "vectors) in the model's order, as nanoGPT has written them since 2023"
        )
    return moments


def load_moments(optimizer: AdamW, model: nn.Module, moments: Moments) -> None:
    """Load moments by parameter. The settings stay the config's: weight decay, betas, and whether AdamW is fused.

    A checkpoint holds these settings too, and nanoGPT keeps them whatever its config says.
    """
    names = parameter_names(model.state_dict())
    state = {number: moments[name] for number, name in enumerate(names) if name in moments}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _fuses(model: nn.Module, config: TrainConfig) -> bool:
    return config.sampling != "nanogpt" or next(model.parameters()).device.type == "cuda"


def set_lr(optimizer: AdamW, lr: float) -> None:
    """Set the learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr
