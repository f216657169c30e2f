"""The terminal while a sweep runs: sparklines, differences, plain lines, the live table, the preparation's bar."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from sweeps.engine.progress import Progress
from sweeps.store import records
from sweeps.store.records import Pruning, Run
from sweeps.study.pilot import Chosen, Tried
from sweeps.terminal import (
    LiveView,
    PlainView,
    differences,
    legend_of,
    outcome_line,
    prepare_line,
    preparing,
    sparkline,
    status_lines,
)
from tests.helpers import small_sweep, synthetic
from trainer.data.encode import PrepareProgress


def runs() -> tuple[Run, ...]:
    return synthetic.full().runs


def now(*in_flight: Run, ended: tuple[Run, ...] = ()) -> Progress:
    return Progress(
        in_flight=in_flight,
        best=records.best_of(ended, search="plateau"),
        counts=records.counts(ended),
        planned=40,
        seconds=100.0,
        remaining_seconds=300.0,
    )


HOPELESS = Pruning(
    rule="plateau",
    reason="dominated",
    evaluation=8,
    step=160,
    val_loss=4.25,
    sentinel=False,
    completed=7,
    best=3.52,
    predicted=3.71,
    low=3.66,
    high=3.8,
    chance=0.004,
)
WHY = "dominated: would end at 3.710 (3.660 to 3.800), chance 0.4 % of the best tenth; best 3.520"
SENTINEL = dataclasses.replace(HOPELESS, sentinel=True)


@pytest.mark.parametrize(
    ("losses", "bars"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 1.0], "█▁"),
        ([7.0, 3.5, 0.0], "█▅▁"),
        ([math.nan, 2.0, 1.0, math.inf], "█▁"),
        ([float(20 - i) for i in range(20)], "█▇▇▆▅▅▄▄▃▂▂▁"),
    ],
)
def test_sparkline(losses: list[float], bars: str) -> None:
    assert sparkline(losses) == bars


@given(st.lists(st.floats(-100, 100), min_size=1))
def test_a_sparkline_is_short_and_the_highest_is_the_tallest(losses: list[float]) -> None:
    bars = sparkline(losses)
    assert len(bars) == min(12, len(losses))
    assert set(bars) <= set("▁▂▃▄▅▆▇█")


def test_differences_leave_out_what_only_follows() -> None:
    base = synthetic.BASELINE
    assert differences(base, base) == "–"
    assert differences(base.replace(seed=3, n_embd=768, n_head=24), base) == "n_embd 384 → 768"
    assert differences(base.replace(dropout=0.2, learning_rate=2e-4), base) == (
        "dropout 0 → 0.2, learning_rate 0.001 → 2e-4"
    )


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"outcome": "complete", "val_loss": 3.5, "val_se": 0.01}, "complete 3.5000 ± 0.0100"),
        ({"outcome": "running", "val_loss": None}, "paused, to be resumed"),
        ({"outcome": "pruned", "reason": "worse than the median", "val_loss": None}, "pruned: worse than the median"),
        ({"outcome": "truncated", "reason": "", "val_loss": None}, "truncated"),
        ({"outcome": "pruned", "reason": WHY, "val_loss": None, "pruning": HOPELESS}, f"pruned: {WHY}"),
        (
            {"outcome": "complete", "val_loss": 3.7, "val_se": 0.01, "pruning": SENTINEL},
            "complete 3.7000 ± 0.0100 (sentinel, predicted 3.710)",
        ),
    ],
)
def test_outcome_line(changed: dict[str, object], line: str) -> None:
    assert outcome_line(dataclasses.replace(runs()[0], **changed)) == line  # type: ignore[arg-type]


def test_status_lines() -> None:
    results = synthetic.full()
    under_way = dataclasses.replace(results.runs[5], id=99, outcome="running", val_loss=None, label="dropout 0.3")
    best = records.best_of(results.runs, search="plateau")
    assert best is not None
    more = dataclasses.replace(results, runs=(*results.runs, under_way))
    for running, doing in ((False, "paused"), (True, "training")):
        first, second, third, *rest = status_lines(more, planned=50, running=running)
        assert first == f"plateau: 48 of 50 runs: 1 {doing}, 37 complete, 8 pruned, 1 diverged, 1 infeasible"
        assert second == f"  run 99, dropout 0.3: {doing} at step {under_way.points[-1].step} of 600"
        assert third == f"best: trial {best.trial} ({best.label}): {outcome_line(best)}"
        assert rest == ([] if running else ["not running now: `sweep run plateau` goes on"])
    assert [*status_lines(synthetic.results([]), planned=9, running=True)] == ["plateau: 0 of 9 runs: none has begun"]
    assert len([*status_lines(results, planned=47, running=False)]) == 2  # finished: nothing to go on with


def test_status_says_how_far_the_pilot_is() -> None:
    study = small_sweep.study(pilot={"effect": 0.4, "max_iters": 160}, baseline_seeds=3)
    config = small_sweep.baseline()
    fields: dict[str, Any] = {"optuna_study": "small-confirm", "phase": "pilot", "origin": "pilot", "config": config}
    piloting = [small_sweep.run(seed, val_loss=3.0 + 0.2 * seed, seed=seed, **fields) for seed in range(3)]
    results = dataclasses.replace(synthetic.results(piloting), study=study)
    assert [*status_lines(results, planned=12, running=True)] == [
        "small: 3 of 12 runs: 3 complete",
        "pilot: at 20 iterations 3 seeds differ by 0.2 nats (sd), more than 0.1; trying 40",
    ]
    chosen = Chosen(tried=(Tried(iters=20, losses=(3.0, 3.01, 3.02)),))
    done = dataclasses.replace(results, study=study.model_copy(update={"chosen": chosen}))
    assert [*status_lines(done, planned=12, running=True)][1] == (
        "pilot: at 20 iterations 3 seeds differ by 0.01 nats (sd), at most 0.1; trials have 20 iterations"
    )


class TestPlainView:
    """Plain lines: one per start and end of a run, and one per 10 seconds between them."""

    def test_its_lines(self) -> None:
        clock, lines = [0.0], list[str]()
        baseline, single_knob = runs()[0], next(run for run in runs() if run.knob == "dropout")
        view = PlainView(lines.append, clock=lambda: clock[0])
        view.begun(synthetic.study(), baseline.config, ())
        view.started(single_knob)
        clock[0] = 3.0
        view.progress(now(single_knob))
        view.point(single_knob, single_knob.points[-1])
        clock[0] = 14.0
        view.progress(now(single_knob))
        view.ended(single_knob)
        view.note("something")
        assert len(lines) == 4
        assert lines[0].startswith(
            f"run {single_knob.id} starts on {single_knob.device}: {single_knob.label}: dropout 0 → "
        )
        assert lines[1].startswith("0 of 40 runs · 2 min · about 5 min left")
        assert (
            f"run {single_knob.id} at {single_knob.points[-1].step}/600: {single_knob.points[-1].val_loss:.3f}"
            in lines[1]
        )
        assert lines[2].startswith(f"run {single_knob.id} complete ")
        assert lines[3] == "note: something"

    def test_a_sentinel_is_marked_as_going_on(self) -> None:
        clock, lines = [0.0], list[str]()
        view = PlainView(lines.append, clock=lambda: clock[0])
        single_knob = dataclasses.replace(runs()[5], pruning=SENTINEL)
        clock[0] = 10.0
        view.progress(now(single_knob, runs()[6]))
        at = [f"{run.points[-1].step}/600: {run.points[-1].val_loss:.3f}" for run in (single_knob, runs()[6])]
        assert lines[0].endswith(f"run {single_knob.id} at {at[0]} (sentinel) · run {runs()[6].id} at {at[1]}")

    def test_going_on_says_so(self) -> None:
        lines: list[str] = []
        view = PlainView(lines.append)
        view.begun(synthetic.study(), synthetic.BASELINE, runs()[:3])
        assert lines == ["note: continuing study 'plateau': 3 runs ended earlier"]
        view.begun(synthetic.study(), synthetic.BASELINE, runs()[:6])  # the trials, after the runs before the first
        assert len(lines) == 1


class TestLiveView:
    """The live table."""

    def shown(self, width: int = 120, *, more: tuple[Run, ...] = (), flying: Pruning | None = None) -> str:
        console = Console(file=io.StringIO(), force_terminal=True, width=width, height=40, color_system=None)
        ended = (*runs(), *more)
        in_flight = dataclasses.replace(
            ended[5], id=99, outcome="running", val_loss=None, points=ended[5].points[:9], pruning=flying
        )
        with LiveView(console) as view:
            view.begun(synthetic.study(), synthetic.BASELINE, ())
            for run in ended:
                view.ended(run)
            view.progress(now(in_flight, ended=ended))
        file = console.file
        assert isinstance(file, io.StringIO)
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", file.getvalue())

    def test_it_shows_trials_curves_and_the_best(self) -> None:
        shown = self.shown()
        best = records.best_of(runs(), search="plateau")
        assert best is not None
        assert f"best {best.val_loss:.4f} (trial {best.trial})" in shown
        for word in ("run", "lr", "dropout", "n_embd", "step", "validation loss", "training", "█"):
            assert word in shown

    def test_it_shows_why_a_trial_was_stopped_and_that_a_sentinel_goes_on(self) -> None:
        pruned = dataclasses.replace(runs()[-1], id=971, outcome="pruned", reason=WHY, val_loss=None, pruning=HOPELESS)
        spared = dataclasses.replace(runs()[-1], id=981, val_loss=3.7, val_se=0.01, pruning=SENTINEL)
        lines = self.shown(240, more=(pruned, spared), flying=SENTINEL).splitlines()
        (first,) = {line.strip() for line in lines if line.strip().startswith("971 ")}
        (second,) = {line.strip() for line in lines if line.strip().startswith("981 ")}
        assert first.endswith(f"pruned: {WHY}")
        assert second.endswith("complete 3.7000 ± 0.0100 (sentinel, predicted 3.710)")
        assert any(line.strip().endswith(f"sentinel: {WHY}") for line in lines)

    def test_a_run_before_the_first_trial_stays_one_row_when_the_trials_begin(self) -> None:
        file = io.StringIO()
        single = dataclasses.replace(runs()[0], id=971)
        with LiveView(Console(file=file, force_terminal=True, width=200, height=40, color_system=None)) as view:
            view.begun(synthetic.study(), synthetic.BASELINE, ())
            view.ended(single)
            view.begun(synthetic.study(), synthetic.BASELINE, [single])
            view.progress(now(ended=(single,)))
        table = file.getvalue().rsplit("validation loss", 1)[-1]
        assert len(re.findall(r"\b971 ", table)) == 1

    def test_runs_and_trials_are_told_apart(self) -> None:
        sampled, single = (
            dataclasses.replace(run, id=number)
            for run, number in (
                (next(run for run in runs() if run.origin == "sampler"), 971),
                (next(run for run in runs() if run.knob == "dropout"), 981),
            )
        )
        lines = [line.strip() for line in self.shown(260, more=(sampled, single)).splitlines()]
        assert any(re.match(rf"971 +trial {sampled.trial}\b", line) for line in lines)
        assert any(line.startswith(f"981  trial {single.trial} ({single.label})") for line in lines)

    @pytest.mark.parametrize("width", [60, 80, 119, 200])
    def test_what_tells_rows_apart_is_never_cut(self, width: int) -> None:
        """Words may be on several lines of a row, but all of them are there, and so is every value of a trial."""
        labels = [f"best without learning_rate, half as long, seed {seed}" for seed in (1341, 2718)]
        confirm = {"optuna_study": "plateau-confirm", "phase": "confirm", "origin": "confirm", "pruning": None}
        sampled = dataclasses.replace(next(run for run in runs() if run.origin == "sampler"), id=973)
        more = (
            *(
                dataclasses.replace(runs()[0], id=971 + i, label=label, **confirm)  # type: ignore[arg-type]
                for i, label in enumerate(labels)
            ),
            sampled,
        )
        shown = self.shown(width, more=more).rsplit(" nats", 1)[-1]
        rows = re.split(r"^ *(97\d|99) ", shown, flags=re.MULTILINE)
        by_run = dict(zip(rows[1::2], rows[2::2], strict=True))
        for run, label in zip(("971", "972"), labels, strict=True):
            assert set(label.split()) <= set(by_run[run].split())
        config = sampled.config.as_dict()
        values = {f"{config[knob]:.2g}" for knob in ("learning_rate", "dropout", "weight_decay")}
        assert values <= set(re.findall(r"[\d.e+-]+", by_run["973"].replace(",", " ").replace(")", " ")))
        assert "reset to the baseline's" in shown
        assert "head start" in shown

    def test_a_legend_explains_only_what_is_shown(self) -> None:
        plain = dataclasses.replace(runs()[0], label="baseline, seed 3")
        assert legend_of([plain]) == []
        half = dataclasses.replace(plain, label="dropout alone, half as long, seed 3")
        assert [line.partition(":")[0] for line in legend_of([half])] == ["half as long", "a knob alone"]
        without = dataclasses.replace(plain, label="best without dropout, seed 3")
        assert [line.partition(":")[0] for line in legend_of([without])] == ["best without a knob"]

    @pytest.mark.parametrize("width", [60, 80, 119, 200])
    def test_no_row_is_wider_than_the_terminal(self, width: int) -> None:
        table = self.shown(width).rsplit(" nats", 1)[-1]
        assert all(len(line.rstrip()) <= width for line in table.splitlines())

    def test_runs_may_end_while_the_table_is_being_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawing, fed, failures = threading.Event(), threading.Event(), list[threading.ExceptHookArgs]()
        monkeypatch.setattr(threading, "excepthook", failures.append)

        class Halting(LiveView):
            """Pauses in the middle of its first drawing until it has been fed."""

            def _cells(self, run: Run, columns: Sequence[str]) -> list[Text]:
                drawing.set()
                assert fed.wait(60)
                return super()._cells(run, columns)

        *earlier, last = runs()
        console = Console(file=io.StringIO(), force_terminal=True, width=60, height=40, color_system=None)
        with Halting(console) as view:
            view.begun(synthetic.study(), synthetic.BASELINE, earlier)
            assert drawing.wait(60)  # rich's thread is drawing the rows
            view.ended(last)
            view.progress(now(ended=(*earlier, last)))
            fed.set()
        assert not failures


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (PrepareProgress(stage="tokenizing", done=0, total=10, tokens=0, seconds=0.0), "tokenizing: 0%"),
        (
            PrepareProgress(stage="tokenizing", done=40_000_000, total=100_000_000, tokens=1_500_000, seconds=4.0),
            "tokenizing: 40%, 1,500,000 tokens, 10.0 MB/s, about 6 s left",
        ),
        # the part done by an earlier, interrupted preparation doesn't count towards the rate
        (
            PrepareProgress(stage="tokenizing", done=60, total=100, tokens=5, seconds=2.0, resumed=20),
            "tokenizing: 60%, 5 tokens, 0.0 MB/s, about 2 s left",
        ),
        (
            PrepareProgress(stage="waiting for another preparation", done=0, total=0, tokens=0, seconds=3.0),
            "waiting for another preparation",
        ),
    ],
)
def test_line(progress: PrepareProgress, shown: str) -> None:
    assert prepare_line(progress) == shown


def test_a_terminal_has_a_bar() -> None:
    file = io.StringIO()
    with preparing(Console(file=file, force_terminal=True, width=100), pytest.fail) as show:
        show(PrepareProgress(stage="training the vocabulary", done=1, total=2, tokens=0, seconds=1.0))
        show(PrepareProgress(stage="tokenizing", done=30_000_000, total=100_000_000, tokens=9, seconds=2.0))
    assert "training the vocabulary" in file.getvalue()
    assert "15.0 MB/s" in file.getvalue()
