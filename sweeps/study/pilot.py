"""The pilot of a study from scratch: how long trials must be for seeds to differ little, found before the first trial.

Once seeds have left the first slow stretch of training, their noise falls with the length of a trial. So the baseline
runs on three seeds at the study's horizon, and at twice that length, and so on, until their final losses differ by a
small share of the effect that the study is after. With sd at a quarter of the effect, the confirm phase's default five
seeds show an effect of that size in most studies (analysis/noise.py, `detectable`). Before that stretch ends seeds
differ little, too: all of them know the frequencies of tokens and nothing else. So the pilot also asks that every seed
has left the loss of a model that knows only those.
"""

from __future__ import annotations

import statistics

from pydantic import Field

from sweeps.study.model import Model, as_yaml
from sweeps.study.sections import MIN_ITERS
from sweeps.text import count

SEEDS = 3
"""seeds of the pilot at every length; at the length that it chooses they are the baseline's first three"""
LARGEST_SHARE = 0.25
"""largest sd of the final losses, as a share of the effect"""
EFFECT = 5
"""default effect, as a multiple of min_effect: an effect near min_effect could never be shown to exceed it"""


LEFT = 0.95
"""largest final loss, as a share of the loss that token frequencies alone reach: above it a run is in that stretch"""


class Pilot(Model):
    """Runs of the baseline that lengthen the trials until seeds differ little enough to show the effect."""

    effect: float | None = Field(None, gt=0, le=10)
    """nats; the effect that the study is after: the horizon is doubled until the standard deviation over seeds is at
    most a quarter of it; null: 5 x min_effect"""
    max_iters: int = Field(ge=MIN_ITERS, le=10**9)
    """iterations of a trial, at most, which bounds the time of the whole sweep; where they are too few, the sweep says
    what it can't tell"""

    def largest_sd(self, min_effect: float) -> float:
        """Return the largest standard deviation over seeds that is small enough, nats."""
        return LARGEST_SHARE * (EFFECT * min_effect if self.effect is None else self.effect)

    def lengths(self, first: int) -> tuple[int, ...]:
        """Return the lengths that may be tried, in iterations: `first`, and doubled as long as `max_iters` allows."""
        doublings = max(0, (self.max_iters // first).bit_length() - 1)
        return tuple(first << doubling for doubling in range(doublings + 1))


class Tried(Model):
    """The pilot's runs at one length, all of which have ended."""

    iters: int
    """iterations of each"""
    losses: tuple[float, ...]
    """final losses of the complete runs, nats per token"""
    unigram_loss: float | None = None
    """loss of a model that knows only the frequencies of tokens, nats per token; None: not known"""

    @property
    def sd(self) -> float | None:
        """Standard deviation of the losses, nats. None: unknown, because a run has no final loss."""
        return statistics.stdev(self.losses) if len(self.losses) == SEEDS else None

    @property
    def too_early(self) -> bool:
        """Whether a seed still knows little more than the frequencies of tokens, where seeds always differ little."""
        return self.unigram_loss is not None and max(self.losses, default=0.0) > LEFT * self.unigram_loss

    def is_enough(self, largest_sd: float) -> bool:
        """Whether the seeds have left the first stretch of training, and differ little enough."""
        return self.sd is not None and self.sd <= largest_sd and not self.too_early

    def in_words(self, largest_sd: float) -> str:
        """Return `at 300 iterations 3 seeds differ by 0.062 nats (sd), more than 0.025`."""
        length = f"at {self.iters:,} iterations"
        if self.sd is None:
            without = SEEDS - len(self.losses)
            have = "has" if without == 1 else "have"
            return f"{length} {without} of {count(SEEDS, 'seed')} {have} no final loss, so the noise is not known"
        if self.too_early:
            return (
                f"{length} {SEEDS} seeds reach {max(self.losses):.2f} nats, where token frequencies alone give "
                f"{self.unigram_loss:.2f}, too early to tell anything"
            )
        compared = "at most" if self.sd <= largest_sd else "more than"
        return f"{length} {SEEDS} seeds differ by {self.sd:.2g} nats (sd), {compared} {as_yaml(largest_sd)}"


class Chosen(Model):
    """What the pilot has chosen: the last length that it tried."""

    tried: tuple[Tried, ...]
    """every length, the shortest first"""

    @property
    def last(self) -> Tried:
        """The runs at the length that is chosen."""
        return self.tried[-1]
