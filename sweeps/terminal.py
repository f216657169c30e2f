"""The terminal's view of a sweep: a bar while the data is prepared, then a live table; elsewhere plain lines.

`preparing` and `watching` choose by the console. A terminal gets the bar and the table, a log file gets lines.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from sweeps.engine import pilot
from sweeps.engine.progress import Progress
from sweeps.store.records import Outcome, Results, Run, counts
from sweeps.study.study import Study
from sweeps.text import changes, count, duration, joined, trial_title
from trainer.config import TrainConfig
from trainer.data.encode import PrepareProgress
from trainer.points import Point

PREPARE_LINE_SECONDS = 2.0
"""seconds between two plain lines while the data is prepared"""
LINE_SECONDS = 10.0
"""seconds between two plain lines while the study runs"""
_SPARKS = "▁▂▃▄▅▆▇█"
_SHORT = {"learning_rate": "lr", "warmup_iters": "warmup", "weight_decay": "decay", "label_smoothing": "smooth"}
_WITHOUT_KNOBS = 94
"""characters of a row without its knobs"""
_LEGEND = {
    "half as long": "half as long: shows whether a gain lasts or is a head start",
    " without ": "best without a knob: that knob is reset to the baseline's",
    " alone,": "a knob alone: the baseline with the best's value of that knob",
    "sentinel": "sentinel: would have been stopped, but shows what that costs",
}
"""what rows say and mean"""
_KNOB_COLUMN = 8
"""characters of a knob's column"""
NO_DIFFERENCE = "–"
_DERIVED = ("lr_decay_iters", "eval_interval", "eval_windows", "final_windows", "n_head")
"""settings that follow from others"""


def preparing(
    console: Console, say: Callable[[str], None]
) -> AbstractContextManager[Callable[[PrepareProgress], None]]:
    """Show the preparation of the data. The context is the callback for `trainer.data.prepare.prepare`."""
    return _prepare_bar(console) if console.is_terminal else nullcontext(_prepare_lines(say))


def watching(console: Console, say: Callable[[str], None]) -> LiveView | PlainView:
    """Return the observer that shows a running study, also a context."""
    return LiveView(console) if console.is_terminal else PlainView(say)


@contextmanager
def _prepare_bar(console: Console) -> Iterator[Callable[[PrepareProgress], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(progress: PrepareProgress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total or None, rate="")
            rate = f"{progress.rate / 1e6:.1f} MB/s" if progress.rate else ""
            bar.update(tasks[progress.stage], completed=progress.done, rate=rate)

        yield show


def _prepare_lines(say: Callable[[str], None]) -> Callable[[PrepareProgress], None]:
    last_line = time.monotonic()

    def show(progress: PrepareProgress) -> None:
        nonlocal last_line
        if time.monotonic() - last_line >= PREPARE_LINE_SECONDS:
            last_line = time.monotonic()
            say(prepare_line(progress))

    return show


class _View(ABC):
    """What both views know of the study."""

    def __init__(self) -> None:
        self.study: Study | None = None
        self.baseline: TrainConfig | None = None

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None:
        first, self.study, self.baseline = self.study is None, study, baseline
        ended = sum(not run.unfinished for run in runs)
        if ended and first:
            self.note(f"continuing study {study.name!r}: {count(ended, 'run')} ended earlier")

    @abstractmethod
    def note(self, text: str) -> None: ...

    def knobs(self, run: Run) -> str:
        """Return the run's differences from the baseline, or a dash."""
        return differences(run.config, self.baseline) if self.baseline else ""


class PlainView(_View):
    """A line for each run that starts or ends, and one per 10 seconds for the progress."""

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._write, self._clock = say, clock
        self._last_line = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def started(self, run: Run) -> None:
        resumed = f" (resumed at step {run.points[-1].step})" if run.points else ""
        differences = self.knobs(run)
        changed = "" if differences == NO_DIFFERENCE else f": {differences}"
        self._say(f"run {run.id} starts on {run.device}: {run.label}{changed}{resumed}")

    def point(self, run: Run, point: Point) -> None: ...

    def ended(self, run: Run) -> None:
        self._say(f"run {run.id} {outcome_line(run)} · {run.label} · {duration(run.seconds)}")

    def progress(self, progress: Progress) -> None:
        if self._clock() - self._last_line >= LINE_SECONDS:
            in_flight = [_in_flight_part(run) for run in progress.in_flight if run.points]
            self._say(" · ".join([summary_line(progress), *in_flight]))

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def _say(self, text: str) -> None:
        self._last_line = self._clock()
        self._write(text)


class LiveView(_View):
    """The live table: runs in flight, and the last that ended.

    rich draws from a thread of its own while the sweep feeds the view. Everything that the drawing reads is immutable
    and is replaced by a single assignment, so neither thread waits for the other.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._most_rows = max(4, console.size.height - 18)
        self._ended: tuple[Run, ...] = ()
        self._progress: Progress | None = None
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
        if self.study is None:  # runs of this session are known from their ends
            self._add(run for run in runs if not run.unfinished)
        super().begun(study, baseline, runs)

    def started(self, run: Run) -> None: ...

    def point(self, run: Run, point: Point) -> None: ...

    def ended(self, run: Run) -> None:
        self._add([run])

    def progress(self, progress: Progress) -> None:
        self._progress = progress

    def note(self, text: str) -> None:
        self._live.console.print(Text(text, style="dim"))

    def _add(self, runs: Iterable[Run]) -> None:
        self._ended = (*self._ended, *runs)[-self._most_rows :]

    def _render(self) -> RenderableType:
        progress, columns = self._progress, self._columns()
        in_flight = progress.in_flight if progress else ()
        # without columns for the knobs, a row takes two lines or more
        ended = self._ended if columns else self._ended[-max(4, self._most_rows // 2) :]
        best = progress.best if progress else None
        table = self._empty_table(columns)
        for run in ended:
            is_best = best is not None and run.id == best.id
            style = "bold green" if is_best else "dim" if run.outcome != Outcome.COMPLETE else ""
            table.add_row(*self._cells(run, columns), style=style)
        for run in in_flight:
            table.add_row(*self._cells(run, columns), style="cyan")
        legend = [Text(line, style="dim") for line in legend_of([*ended, *in_flight])]
        name = self.study.name if self.study else ""
        return Group(table, *legend, Text(f"{name}: {summary_line(progress)}", style="bold"))

    def _empty_table(self, columns: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        table.add_column("run", justify="right", no_wrap=True)
        table.add_column("", overflow="fold", max_width=max(20, min(36, self._console.width // 2 - 12)))
        for knob in columns:
            table.add_column(_SHORT.get(knob, knob), justify="right", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
        table.add_column("validation loss", no_wrap=True, min_width=12)
        table.add_column("nats", justify="right", no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        return table

    def _columns(self) -> list[str]:
        """Return the knobs that get a column: all of them, or none where the terminal is too narrow."""
        knobs = list(self.study.knobs) if self.study else []
        return knobs if self._console.width >= _WITHOUT_KNOBS + _KNOB_COLUMN * len(knobs) else []

    def _cells(self, run: Run, columns: Sequence[str]) -> list[Text]:
        losses = [point.val_loss for point in run.points]
        loss = run.val_loss if run.val_loss is not None else losses[-1] if losses else None
        step = run.points[-1].step if run.points else 0
        return [
            Text(str(run.id)),
            Text(self._title(run, columns)),
            *(self._value(run, knob) for knob in columns),
            Text(f"{step}/{run.config.max_iters}"),
            Text(sparkline(losses[1:])),  # the first, of an untrained model, would flatten the rest
            Text("" if loss is None else f"{loss:.4f}"),
            _remark(run),
        ]

    def _title(self, run: Run, columns: Sequence[str]) -> str:
        """Return what tells a run apart: label, a trial's number, and a sampled trial's values where columns don't."""
        if not self._searched(run):
            return run.label
        if columns or run.origin != "sampler":
            return trial_title(run.trial, run.label)
        settings = run.config.as_dict()
        values = (
            (f"{_SHORT.get(knob, knob)} {_value(settings[knob])}" for knob in self.study.knobs) if self.study else ()
        )
        return trial_title(run.trial, ", ".join(values))

    def _searched(self, run: Run) -> bool:
        return self.study is not None and run.optuna_study == self.study.name

    def _value(self, run: Run, knob: str) -> Text:
        """Return a knob's value, faint where it is the baseline's."""
        value = run.config.as_dict()[knob]
        unchanged = self.baseline is not None and value == self.baseline.as_dict()[knob]
        return Text(_value(value), style="dim" if unchanged else "")


def _value(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _remark(run: Run) -> Text:
    """Return how a run stands, in a line that may be cut, and nothing of a run that is just complete."""
    if run.outcome == Outcome.RUNNING:
        return Text(f"sentinel: {run.pruning.why}" if run.pruning else "training")
    return Text(outcome_line(run) if run.outcome != Outcome.COMPLETE or run.pruning is not None else "")


def legend_of(runs: Iterable[Run]) -> list[str]:
    """Return what the rows of these runs mean that don't explain themselves."""
    shown = [f"{run.label}{' sentinel' if run.pruning and run.pruning.sentinel else ''}" for run in runs]
    return [meaning for words, meaning in _LEGEND.items() if any(words in row for row in shown)]


def prepare_line(progress: PrepareProgress) -> str:
    """Return `tokenizing: 42%, 1,200,000 tokens, 9.1 MB/s, about 8 s left`."""
    parts = [f"{progress.stage}: {progress.done / progress.total:.0%}" if progress.total else progress.stage]
    if progress.tokens:
        parts.append(f"{progress.tokens:,} tokens")
    if progress.rate:
        parts.append(f"{progress.rate / 1e6:.1f} MB/s")
    if progress.seconds_left:
        parts.append(f"about {duration(progress.seconds_left)} left")
    return ", ".join(parts)


def summary_line(progress: Progress | None) -> str:
    """Return the progress of the study in a line: runs, outcomes, the best loss, time taken and left."""
    if progress is None:
        return "starting"
    ended = {outcome: n for outcome, n in progress.counts.items() if n}
    parts = [f"{sum(ended.values())} of {progress.planned} runs"]
    if ended:
        parts.append(joined(f"{n} {outcome}" for outcome, n in ended.items()))
    if progress.best is not None and progress.best.val_loss is not None:
        parts.append(f"best {progress.best.val_loss:.4f} (trial {progress.best.trial})")
    parts.append(duration(progress.seconds))
    if progress.remaining_seconds is not None:
        parts.append(f"about {duration(progress.remaining_seconds)} left")
    return " · ".join(parts)


def _in_flight_part(run: Run) -> str:
    last, sentinel = run.points[-1], " (sentinel)" if run.pruning else ""
    return f"run {run.id} at {last.step}/{run.config.max_iters}: {last.val_loss:.3f}{sentinel}"


def outcome_line(run: Run) -> str:
    """Return how a run ended: its loss, or why it has none."""
    if run.outcome == Outcome.COMPLETE and run.val_loss is not None:
        error = f" ± {run.val_se:.4f}" if run.val_se is not None else ""
        return f"complete {run.val_loss:.4f}{error}{_prediction(run)}"
    if run.outcome == Outcome.RUNNING:
        return "paused, to be resumed"
    return f"{run.outcome}: {run.reason}" if run.reason else run.outcome


def _prediction(run: Run) -> str:
    """Return what was predicted of a sentinel, to be compared with its final loss."""
    if run.pruning is None or run.pruning.predicted is None:
        return ""
    return f" (sentinel, predicted {run.pruning.predicted:.3f})"


def status_lines(results: Results, *, planned: int, running: bool) -> Iterator[str]:
    """Yield the lines of `sweep status`: how many runs are how far, the unfinished ones, the best trial, what to do.

    `running`: a process runs the study now.
    """
    under_way = [run for run in results.runs if run.outcome == Outcome.RUNNING]
    doing = "training" if running else "paused"
    ended = [f"{n} {outcome}" for outcome, n in counts(results.runs).items() if n]
    parts = [*([f"{len(under_way)} {doing}"] if under_way else []), *ended]
    yield f"{results.study.name}: {len(results.runs)} of {planned} runs: {', '.join(parts) or 'none has begun'}"
    for run in under_way:
        step = run.points[-1].step if run.points else 0
        yield f"  run {run.id}, {run.label}: {doing} at step {step} of {run.config.max_iters}"
    if pilot_line := pilot.standing(results.study, results.runs, results.data):
        yield pilot_line
    if results.best is not None:
        yield f"best: {trial_title(results.best.trial, results.best.label)}: {outcome_line(results.best)}"
    if not running and (under_way or len(results.runs) < planned):
        yield f"not running now: `{results.command('run')}` goes on"


def differences(config: TrainConfig, baseline: TrainConfig) -> str:
    """Return a run's differences from the baseline: "dropout 0.1 → 0.3, n_embd 64 → 128", or a dash for none."""
    changed = {name: text for name, text in changes(config, baseline).items() if name not in _DERIVED}
    return ", ".join(f"{name} {text}" for name, text in changed.items()) or NO_DIFFERENCE


def sparkline(losses: Sequence[float], *, width: int = 12) -> str:
    """Return the losses as bars, the highest loss the tallest. Longer curves are thinned to `width` bars."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        return ""
    if len(finite) > width:
        finite = [finite[round(i * (len(finite) - 1) / (width - 1))] for i in range(width)]
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(_SPARKS[round((loss - low) / span * (len(_SPARKS) - 1))] for loss in finite)
