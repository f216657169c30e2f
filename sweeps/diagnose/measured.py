"""A logged run as measured: its curve's reading, the gap between its losses, its size, its tokens and its schedule.

Findings are pure functions of these numbers. What the log and the user didn't give is None, and no finding that needs
it is made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeps.diagnose.curve import MOST, Curve, curve_of, means
from sweeps.diagnose.reading import CurveReading, plateau_of
from sweeps.diagnose.run import LoggedPoint, LoggedRun
from sweeps.pruning.law import Floats
from sweeps.pruning.plateau import WINDOW, Slope, evaluation_noise, slope
from trainer.config import TrainConfig
from trainer.data.bins import GPT2_PADDED
from trainer.errors import ConfigError
from trainer.model.size import parameters
from trainer.nanogpt import DEFAULTS, Value
from trainer.schedule import lr_at

EDGE = 4
"""evaluations whose median is a level, as in the plateau test"""
_MEDIAN_OF_FOUR = 0.546
"""standard deviation of the median of 4 normal values, relative to that of one value"""
_UNTRAINED = (3.0, 12.5)
"""nats; a first loss in this range may be that of an untrained model, which is ln V and some hundredths"""
_GPT2_FIRST = (10.5, 11.3)
"""nats; in this range V is GPT-2's, ln 50304 = 10.83"""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user adds to a log."""

    settings: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    """of the run, by nanoGPT's names, from its config or checkpoint; they take the place of printed ones"""
    vocab_size: int | None = None
    data_tokens: int | None = None
    """training tokens in the data"""
    bytes_per_token: float | None = None
    card: str | None = None
    """name of the card that it trained on"""
    checkpoint_step: int | None = None
    """updates that the run's checkpoint has done"""
    checkpoint_loss: float | None = None
    """best validation loss that it holds, nats per token"""
    notes: tuple[str, ...] = ()
    """what was passed over in these, in sentences"""


@dataclass(frozen=True, kw_only=True)
class Level:
    """A median of a few losses with its standard error, nats."""

    value: float
    se: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A run as measured. Losses are in nats per token, or per byte where the log is in bits per byte."""

    run: LoggedRun
    given: Given
    settings: Mapping[str, Value]
    """all of nanoGPT's settings; empty: unknown"""
    config: TrainConfig | None
    """the same, checked; None: unknown, or no run can have them"""
    reading: CurveReading
    """of the validation losses, or of the training losses where there are too few of them"""
    of_training: bool
    """whether the reading is of training losses"""
    notes: tuple[str, ...]
    """what was assumed or left out, in sentences"""

    @property
    def step(self) -> int:
        """Updates that the run had done at its last loss."""
        return self.run.last_step

    @cached_property
    def curve(self) -> Curve:
        """Finite validation losses, else training losses."""
        return curve_of(from_iters(self.run) if self.of_training else self.run)

    @cached_property
    def pairs(self) -> Floats:
        """(N, 3) step, training and validation loss of the evaluations with both, all finite."""
        rows = [
            (point.step, point.train_loss, point.val_loss)
            for point in self.run.points
            if point.train_loss is not None and point.val_loss is not None
        ]
        table = np.array(rows, dtype=float).reshape(-1, 3)
        finite: Floats = table[np.isfinite(table).all(axis=1)]
        return finite

    @cached_property
    def trained(self) -> Floats:
        """(N, 3) like `pairs`, without the evaluation of the untrained model."""
        return self.pairs[self.pairs[:, 0] > 0]

    @property
    def above(self) -> int:
        """Evaluations of the trained model whose training loss is above the validation loss."""
        return int((self.trained[:, 1] > self.trained[:, 2]).sum())

    @cached_property
    def gap(self) -> Level | None:
        """Validation loss minus training loss over the last 4 evaluations; None with fewer than 3."""
        return self._gap(self.trained[-EDGE:])

    @cached_property
    def first_gap(self) -> Level | None:
        """The same over the first 4 evaluations of the trained model."""
        return self._gap(self.trained[:EDGE])

    @cached_property
    def gap_noise(self) -> float:
        """Standard deviation of the gap of one evaluation, nats; of 3 evaluations or more."""
        return float(evaluation_noise(self.trained[:, 2] - self.trained[:, 1]))

    def _gap(self, rows: Floats) -> Level | None:
        if len(rows) < EDGE - 1:
            return None
        return Level(value=float(np.median(rows[:, 2] - rows[:, 1])), se=_MEDIAN_OF_FOUR * self.gap_noise)

    @cached_property
    def training(self) -> Slope | None:
        """Slope of the evaluations' training losses over the second half of the run."""
        return self._slope(self.trained[:, 1])

    def _slope(self, values: Floats) -> Slope | None:
        steps = self.trained[:, 0]
        late = steps > steps[-1] / 2 if len(steps) else np.zeros(0, dtype=bool)
        return slope(values[late], iterations=steps[late], window=len(steps)) if late.sum() >= EDGE else None

    @cached_property
    def iters(self) -> Floats:
        """(N, 2) step and loss of the printed training batches; not finite where the run was not."""
        return np.array([(entry.step, entry.loss) for entry in self.run.iters], dtype=float).reshape(-1, 2)

    @property
    def lowest(self) -> tuple[int, float]:
        """Step and loss of the lowest point of the curve."""
        place = int(self.curve.losses.argmin())
        return int(self.curve.steps[place]), float(self.curve.losses[place])

    @property
    def level(self) -> float:
        """The median of the curve's last 4 losses."""
        return float(np.median(self.curve.losses[-EDGE:]))

    @property
    def vocab_size(self) -> int | None:
        """The model's vocabulary: printed or given, else by the first loss."""
        return self.given.vocab_size or self.run.vocab_size or self.vocabulary_by_loss

    @property
    def vocabulary_by_loss(self) -> int | None:
        """The vocabulary of which an untrained model has the log's loss at step 0, within some per cent."""
        if self.run.trainer != "nanoGPT" or not len(self.curve.steps) or self.curve.steps[0] > 0:
            return None
        first = float(self.curve.losses[0])
        if _GPT2_FIRST[0] < first < _GPT2_FIRST[1]:
            return GPT2_PADDED
        return round(math.exp(first)) if _UNTRAINED[0] < first < _UNTRAINED[1] else None

    @property
    def parameters(self) -> int | None:
        """Parameters, position embeddings included where the shape is known."""
        if self.config is not None and self.vocab_size is not None:
            return parameters(self.config, self.vocab_size)
        return self.run.parameters

    @property
    def tokens_per_update(self) -> int | None:
        """Tokens per iteration: as printed, else by the settings."""
        printed = self.run.tokens_per_iter
        return printed or (None if self.config is None else self.config.tokens_per_iter)

    @property
    def tokens(self) -> int | None:
        """Tokens that the run has seen."""
        per_update = self.tokens_per_update
        return None if per_update is None else self.step * per_update

    @property
    def epochs(self) -> float | None:
        """Passes through the training data; None: the data's size isn't known."""
        if self.tokens is None or self.given.data_tokens is None:
            return None
        return self.tokens / self.given.data_tokens

    def rate(self, step: int | None = None) -> float | None:
        """Return the learning rate of the update at `step`, by default the last: by the settings, else as printed."""
        step = self.step if step is None else step
        if self.config is not None:
            return lr_at(step, self.config)
        rates = self._printed_rates
        return min(rates, key=lambda pair: abs(pair[0] - step))[1] if rates else None

    def share(self) -> float | None:
        """Return the last update's rate as a share of the peak; where only shares are printed, the last of them."""
        rate, peak = self.rate(), self.peak
        if rate is not None and peak:
            return rate / peak
        shares = [entry.lr_share for entry in self.run.iters if entry.lr_share is not None]
        return shares[-1] if shares else None

    @property
    def peak(self) -> float | None:
        """The highest learning rate of the schedule, or of those printed."""
        if self.config is not None:
            return self.config.learning_rate
        return max((rate for _, rate in self._printed_rates), default=None)

    @cached_property
    def _printed_rates(self) -> list[tuple[int, float]]:
        points = [(point.step, point.lr) for point in self.run.points if point.lr is not None]
        return points + [(entry.step, entry.lr) for entry in self.run.iters if entry.lr is not None]

    @property
    def seconds_per_update(self) -> float | None:
        """Median time of an iteration without an evaluation, seconds; None: not printed."""
        evaluated = {point.step for point in self.run.points}
        times = [entry.seconds for entry in self.run.iters if entry.seconds and entry.step not in evaluated]
        return float(np.median(times)) if times else None


def measure(run: LoggedRun, given: Given) -> Measured:
    """Measure a run, with what the user adds to its log."""
    printed = run.settings if run.trainer == "nanoGPT" else {}
    known = {**printed, **given.settings}
    settings: dict[str, Value] = {**DEFAULTS, **known} if known else {}
    notes = list(given.notes)
    config = None
    if settings:
        names = {spec.name for spec in dataclasses.fields(TrainConfig)} - {"device", "init_from", "dtype"}
        try:
            config = TrainConfig.from_mapping({name: value for name, value in settings.items() if name in names})
        except ConfigError as error:
            notes.append(f"The settings can't be those of a run, and what follows from them is left out: {error}.")
    finite = sum(point.val_loss is not None and math.isfinite(point.val_loss) for point in run.points) + len(run.bits)
    of_training = finite < EDGE and len(run.iters) >= WINDOW + EDGE
    if of_training:
        notes.append("There are too few validation losses; what is said of the curve is said of the training loss.")
    reading = plateau_of(from_iters(run) if of_training else run, settings=settings or None)
    return Measured(
        run=run,
        given=given,
        settings=settings,
        config=config,
        reading=reading,
        of_training=of_training,
        notes=(*notes, *reading.notes),
    )


def from_iters(run: LoggedRun) -> LoggedRun:
    """Return a run whose evaluations are means of groups of its printed training losses."""
    table = np.array([(entry.step, entry.loss) for entry in run.iters], dtype=float).reshape(-1, 2)
    steps, losses = means(table[:, 0], table[:, 1], most=MOST)
    points = tuple(
        LoggedPoint(step=round(step), train_loss=loss, val_loss=loss, lr=None, line=0)
        for step, loss in zip(steps.tolist(), losses.tolist(), strict=True)
    )
    return dataclasses.replace(run, points=points, bits=())
