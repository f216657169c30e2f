"""Facts about a run beside its curve: sizes, tokens, perplexity, bits per byte, and the card's true utilisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sweeps.diagnose import usual
from sweeps.diagnose.measured import Measured
from sweeps.text import perplexity
from trainer.errors import ConfigError
from trainer.machine.cards import dense_peak
from trainer.model.size import flops_per_token

A100 = 312e12
"""FLOP/s in whose units nanoGPT prints mfu, whatever the card"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Numbers of a run; None: not known."""

    step: int
    max_iters: int | None
    loss: float | None
    """median of the last 4 losses, in the curve's unit"""
    lowest: float | None
    lowest_step: int | None
    perplexity: float | None
    bits_per_byte: float | None
    vocab_size: int | None
    parameters: int | None
    tokens: int | None
    tokens_per_parameter: float | None
    tokens_per_update: int | None
    usual_tokens_per_update: int | None
    epochs: float | None
    learning_rate: float | None
    """of the last update"""
    seconds_per_update: float | None
    flops: float | None
    """FLOP per second"""
    card: str | None
    mfu: float | None
    """share of the card's own dense peak, 16-bit with 32-bit accumulation"""


def facts_of(m: Measured) -> Facts:
    """Return the facts of a run. Raises ConfigError for a card whose peak isn't known."""
    have = len(m.curve.losses) > 0
    loss = m.level if have else m.given.checkpoint_loss
    per_byte = m.reading.unit == "nats per byte"
    flops = _flops(m)
    peak = None if m.given.card is None else dense_peak(m.given.card)
    if m.given.card is not None and peak is None:
        raise ConfigError(
            f"--device {m.given.card}: its peak isn't known, so neither is its utilisation; leave it out, or give a "
            'name such as "RTX 4070" or "A100"'
        )
    return Facts(
        step=m.step,
        max_iters=None if m.config is None else m.config.max_iters,
        loss=loss,
        lowest=m.lowest[1] if have else m.given.checkpoint_loss,
        lowest_step=m.lowest[0] if have else m.given.checkpoint_step,
        perplexity=None if loss is None or per_byte else perplexity(loss),
        bits_per_byte=_bits(loss, per_byte=per_byte, bytes_per_token=m.given.bytes_per_token),
        vocab_size=m.vocab_size,
        parameters=m.parameters,
        tokens=m.tokens,
        tokens_per_parameter=m.tokens / m.parameters if m.tokens is not None and m.parameters else None,
        tokens_per_update=m.tokens_per_update,
        usual_tokens_per_update=usual.tokens_per_update(m.parameters) if m.parameters else None,
        epochs=m.epochs,
        learning_rate=m.rate(),
        seconds_per_update=m.seconds_per_update,
        flops=flops,
        card=m.given.card,
        mfu=None if flops is None or peak is None else flops / peak,
    )


def _bits(loss: float | None, *, per_byte: bool, bytes_per_token: float | None) -> float | None:
    if loss is None or not (per_byte or bytes_per_token):
        return None
    return loss / math.log(2) / (1.0 if per_byte else bytes_per_token or 1.0)


def _flops(m: Measured) -> float | None:
    """Return FLOP per second: from the size and the time per update, else from the printed mfu."""
    seconds, tokens = m.seconds_per_update, m.tokens_per_update
    if m.config is not None and m.vocab_size is not None and seconds and tokens:
        return flops_per_token(m.config, m.vocab_size) * tokens / seconds
    printed = [entry.mfu for entry in m.run.iters if entry.mfu is not None]
    return float(np.max(printed)) * A100 if printed and m.run.trainer == "nanoGPT" else None
