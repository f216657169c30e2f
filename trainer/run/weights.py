"""Weights by nanoGPT's names, whatever wrapped the model that was saved, and what other programs' files are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.model.optim import TIED

EMBEDDING = "transformer.wte.weight"
# put inside of names by torch.compile, DistributedDataParallel, FSDP, activation checkpointing and DeepSpeed
_INSIDE = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
_BEFORE = re.compile(r"^(?:[^.]+\.)+?(?=(?:transformer|lm_head)\.)")  # the attribute of a class that holds the model
_MASK = re.compile(r"\.attn\.(?:masked_)?bias$")  # attention masks, which older versions of nanoGPT kept as buffers


def bare_name(name: str) -> str:
    """Return a weight's name without what wrappers have put before it and into it."""
    return _BEFORE.sub("", _INSIDE.sub("", name))


def nanogpt_weights(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's weights by today's names, without attention masks.

    The output layer is the token embedding; files that leave out equal tensors hold it once. Raises CheckpointError for
    two models in one file, and for an output layer of its own.
    """
    weights: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for name, tensor in saved.items():
        bare = bare_name(name)
        if _MASK.search(bare) and tensor.dim() != 1:
            continue
        if bare in weights:
            raise CheckpointError(f"holds two models: {origins[bare]} and {name}; save the one to go on from by itself")
        weights[bare], origins[bare] = tensor, name
    if EMBEDDING in weights:
        embedding, output = weights[EMBEDDING], weights.setdefault(TIED, weights[EMBEDDING])
        if output.shape == embedding.shape and not torch.equal(output, embedding):
            raise CheckpointError(
                f"{TIED} differs from {EMBEDDING}, but nanoGPT's output layer is the token embedding: the model is not "
                "nanoGPT's"
            )
    return weights


def other_program(form: Any) -> str | None:
    """Say what a file is that lacks nanoGPT's keys, if that can be told; None: it can't."""
    if not isinstance(form, dict):
        return f"it holds a {type(form).__name__}"
    if "state_dict" in form or "pytorch-lightning_version" in form:
        return "PyTorch Lightning's keys are another program's; save model, optimizer, model_args, iter_num and config"
    if form and all(isinstance(value, Tensor) for value in form.values()):
        return "it holds weights only, as torch.save(model.state_dict()) writes them, without optimizer and iteration"
    return None
