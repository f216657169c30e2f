"""What a person sees while a sweep runs: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from sweeps.engine.progress import Progress
from sweeps.store.records import Outcome, Run
from sweeps.study.study import Study
from sweeps.text import changes, count, duration, joined
from trainer.config import TrainConfig
from trainer.data.encode import PrepareProgress
from trainer.points import Point

LINE_SECONDS = 10.0
"""between two progress lines of the plain view"""
_SPARKS = "▁▂▃▄▅▆▇█"
_SHORT = {"learning_rate": "lr", "warmup_iters": "warmup", "weight_decay": "decay", "label_smoothing": "smooth"}
_WITHOUT_KNOBS = 70
"""characters of a row beside its knobs"""
_DESCENDED = ("lr_decay_iters", "eval_interval", "eval_windows", "final_windows", "n_head")
"""settings that only follow others"""


def sparkline(losses: Sequence[float], *, width: int = 12) -> str:
    """The losses as bars: the highest is the tallest. Longer curves are thinned to `width` bars."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        return ""
    shown = (
        [finite[round(i * (len(finite) - 1) / (width - 1))] for i in range(width)] if len(finite) > width else finite
    )
    low, span = min(shown), (max(shown) - min(shown)) or 1.0
    return "".join(_SPARKS[round((loss - low) / span * (len(_SPARKS) - 1))] for loss in shown)


def differences(config: TrainConfig, baseline: TrainConfig) -> str:
    """What a run changes of the baseline: "dropout 0.1 → 0.3, n_embd 64 → 128"; a dash for nothing."""
    found = {name: text for name, text in changes(config, baseline).items() if name not in _DESCENDED}
    return ", ".join(f"{name} {text}" for name, text in found.items()) or "–"


class _View:
    """What both views know of the sweep."""

    def __init__(self) -> None:
        self.study: Study | None = None
        self.baseline: TrainConfig | None = None

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None:
        self.study, self.baseline = study, baseline
        done = sum(not run.unfinished for run in runs)
        if done:
            self.note(f"going on with study {study.name!r}: {count(done, 'run')} of it done before")

    def knobs(self, run: Run) -> str:
        return differences(run.config, self.baseline) if self.baseline else ""

    def note(self, text: str) -> None:
        raise AssertionError(f"a view says what it is told: {text}")


def summary_line(now: Progress | None) -> str:
    """How far the sweep is, in a line."""
    if now is None:
        return "starting"
    ended = {outcome: n for outcome, n in now.counts.items() if n}
    parts = [f"{sum(ended.values())} of {now.planned} runs"]
    if ended:
        parts.append(joined(f"{n} {outcome}" for outcome, n in ended.items()))
    if now.best is not None and now.best.val_loss is not None:
        parts.append(f"best {now.best.val_loss:.4f} (trial {now.best.trial})")
    parts.append(duration(now.seconds))
    if now.remaining_seconds is not None:
        parts.append(f"about {duration(now.remaining_seconds)} left")
    return " · ".join(parts)


def outcome_line(run: Run) -> str:
    """How a run ended: its loss, or why it has none."""
    if run.outcome == Outcome.COMPLETE and run.val_loss is not None:
        error = f" ± {run.val_se:.4f}" if run.val_se is not None else ""
        return f"complete {run.val_loss:.4f}{error}{_foretold(run)}"
    if run.outcome == Outcome.RUNNING:
        return "paused, to be resumed"
    return f"{run.outcome}: {run.reason}" if run.reason else run.outcome


def _foretold(run: Run) -> str:
    """What was predicted of a sentinel, to stand beside what it came to."""
    if run.pruning is None or run.pruning.predicted is None:
        return ""
    return f" (sentinel, predicted {run.pruning.predicted:.3f})"


class PlainView(_View):
    """A line for each run that starts or ends, and one in ten seconds for how far it is."""

    def __init__(self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._write, self._clock = write, clock
        self._said = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def started(self, run: Run) -> None:
        again = f" (going on at step {run.points[-1].step})" if run.points else ""
        self._say(f"run {run.id} starts on {run.device}: {run.label}: {self.knobs(run)}{again}")

    def point(self, run: Run, point: Point) -> None: ...

    def ended(self, run: Run) -> None:
        self._say(f"run {run.id} {outcome_line(run)} · {run.label} · {duration(run.seconds)}")

    def progress(self, progress: Progress) -> None:
        if self._clock() - self._said >= LINE_SECONDS:
            flights = [self._flight(run, run.points[-1]) for run in progress.in_flight if run.points]
            self._say(" · ".join([summary_line(progress), *flights]))

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def _flight(self, run: Run, last: Point) -> str:
        mark = " (sentinel)" if run.pruning else ""
        return f"run {run.id} at {last.step}/{run.config.max_iters}: {last.val_loss:.3f}{mark}"

    def _say(self, text: str) -> None:
        self._said = self._clock()
        self._write(text)


class LiveView(_View):
    """The live table: runs in flight, and the last that ended.

    rich draws from a thread of its own while the sweep feeds the view. Everything that the drawing reads is immutable
    and is replaced by a single assignment, so neither thread waits for the other.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._rows = max(4, console.size.height - 16)
        self._ended: tuple[Run, ...] = ()
        self._now: Progress | None = None
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()
        self._console.print(self._render())

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None:
        super().begun(study, baseline, runs)
        self._add(run for run in runs if not run.unfinished)

    def started(self, run: Run) -> None: ...

    def point(self, run: Run, point: Point) -> None: ...

    def ended(self, run: Run) -> None:
        self._add([run])

    def _add(self, runs: Iterable[Run]) -> None:
        self._ended = (*self._ended, *runs)[-self._rows :]

    def progress(self, progress: Progress) -> None:
        self._now = progress

    def note(self, text: str) -> None:
        self._live.console.print(Text(text, style="dim"))

    def _render(self) -> RenderableType:
        now, ended = self._now, self._ended
        best = now.best if now else None
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("phase", no_wrap=True)
        for knob in self._columns():
            table.add_column(_SHORT.get(knob, knob), justify="right", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
        table.add_column("validation loss", no_wrap=True, min_width=12)
        table.add_column("nats", justify="right", no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        for run in ended:
            is_best = best is not None and run.id == best.id
            style = "bold green" if is_best else "dim" if run.outcome != Outcome.COMPLETE else ""
            table.add_row(*self._cells(run), style=style)
        for run in now.in_flight if now else ():
            table.add_row(*self._cells(run), style="cyan")
        name = self.study.name if self.study else ""
        return Group(table, Text(f"{name}: {summary_line(now)}", style="bold"))

    def _columns(self) -> list[str]:
        """The knobs that there is room for: all or none."""
        knobs = list(self.study.knobs) if self.study else []
        return knobs if self._console.width >= _WITHOUT_KNOBS + 8 * len(knobs) else []

    def _cells(self, run: Run) -> list[Text]:
        losses = [point.val_loss for point in run.points]
        shown = run.val_loss if run.val_loss is not None else losses[-1] if losses else None
        step = run.points[-1].step if run.points else 0
        mark = "" if self.study and run.optuna_study == self.study.name else "s"  # a further seed, or outside the space
        return [
            Text(f"{mark}{run.trial}"),
            Text(run.origin),
            *(self._value(run, knob) for knob in self._columns()),
            Text(f"{step}/{run.config.max_iters}"),
            Text(sparkline(losses[1:])),  # the first, of an untrained model, would flatten the rest
            Text("" if shown is None else f"{shown:.4f}"),
            Text(self._remark(run)),
        ]

    def _value(self, run: Run, knob: str) -> Text:
        """A knob's value, faint where it is the baseline's."""
        value = run.config.as_dict()[knob]
        same = self.baseline is not None and value == self.baseline.as_dict()[knob]
        text = f"{value:.2g}" if isinstance(value, float) else str(value)
        return Text(text, style="dim" if same else "")

    def _remark(self, run: Run) -> str:
        if run.outcome == Outcome.RUNNING:
            return f"sentinel: {run.pruning.why}" if run.pruning else "training"
        if run.outcome != Outcome.COMPLETE:
            return outcome_line(run)
        if run.origin == "baseline":
            return f"seed {run.seed}"
        if run.pruning is not None:
            return outcome_line(run)
        return self.knobs(run) if not self._columns() or run.optuna_study != (self.study and self.study.name) else ""


PREPARE_LINE_SECONDS = 2.0


def prepare_line(progress: PrepareProgress) -> str:
    """`tokenizing: 42 %, 1,200,000 tokens, 9.1 MB/s, about 8 s left`"""
    parts = [f"{progress.stage}: {progress.done / progress.total:.0%}" if progress.total else progress.stage]
    if progress.tokens:
        parts.append(f"{progress.tokens:,} tokens")
    if progress.rate:
        parts.append(f"{progress.rate / 1e6:.1f} MB/s")
    if progress.seconds_left:
        parts.append(f"about {duration(progress.seconds_left)} left")
    return ", ".join(parts)


@contextmanager
def preparing(console: Console, say: Callable[[str], None]) -> Iterator[Callable[[PrepareProgress], None]]:
    """The callback for `trainer.data.prepare.prepare`."""
    if not console.is_terminal:
        yield _lines(say)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(progress: PrepareProgress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total or None, rate="")
            rate = f"{progress.rate / 1e6:.1f} MB/s" if progress.rate else ""
            bar.update(tasks[progress.stage], completed=progress.done, rate=rate)

        yield show


def _lines(
    say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[PrepareProgress], None]:
    said = clock()

    def show(progress: PrepareProgress) -> None:
        nonlocal said
        if clock() - said >= PREPARE_LINE_SECONDS:
            said = clock()
            say(prepare_line(progress))

    return show
