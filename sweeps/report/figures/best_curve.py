"""The best config's loss curves against the baseline's seeds, and where those stood on a plateau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.arms import PHASE
from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.analysis.findings import Findings
from sweeps.analysis.screening import SearchBest
from sweeps.pruning import plateau
from sweeps.report.figures.curves import LOSS, TOKENS, LossCurve, add_schedules, band, curve, drawn, zoom
from sweeps.report.figures.style import BLACK, KIND_COLOURS, KIND_NAMES, Picture, figure, nothing
from sweeps.store.records import Results, Run
from sweeps.text import count
from trainer.points import Point
from trainer.schedule import evaluation_of

_LUCKY = "The best config's lines are fresh seeds; dashed: the search's own seed, on which it is the luckiest of many."
_ALONE = "The best run is the winner of the whole search on one seed."


def best_seeds(results: Results, best: Run) -> tuple[Run, ...]:
    """Complete runs of the best config on fresh seeds; none where the best is the baseline."""
    if best.origin == "baseline":
        return ()
    return tuple(
        run
        for run in results.runs
        if run.phase == PHASE and run.val_loss is not None and run.config == best.config.replace(seed=run.seed)
    )


def stuck_parts(runs: Sequence[Run]) -> tuple[LossCurve, ...]:
    """The ends of those curves that are on a plateau, from where the verdict has it on."""
    found = plateau.verdicts([losses_of(run) for run in runs], [schedule_of(run.config) for run in runs])
    return tuple(
        curve(replace(run, points=_since(run, verdict.since)))
        for run, verdict in zip(runs, found, strict=True)
        if verdict.since is not None
    )


def _since(run: Run, evaluation: int) -> tuple[Point, ...]:
    return tuple(point for point in run.points if evaluation_of(point.step, run.config) >= evaluation)


def best_curve(findings: Findings) -> Picture:
    """The best config's curves, on fresh seeds where there are any, and each seed of the baseline."""
    key, title = "best-curve", "The best against the baseline's seeds"
    results = findings.results
    seeds = [one for one in (curve(run, kind="baseline") for run in results.baseline_runs) if one.tokens]
    best = findings.screening.best
    if not seeds or best is None or not curve(best.run).tokens:
        missing = "the baseline has no complete run" if not seeds else "the search has no complete trial"
        return nothing(key, title, f"Nothing to compare yet: {missing}.")
    winner = curve(best.run, kind="best")
    fresh = [one for one in (curve(run, kind="best") for run in best_seeds(results, best.run)) if one.tokens]
    stuck = stuck_parts([one.run for one in seeds])
    made = figure(TOKENS, LOSS)
    if len(seeds) > 1:
        low, high = _envelope(seeds)
        made.add_trace(band(seeds[0].tokens, low, high, name="range of the seeds"))
    for index, one in enumerate(stuck):
        made.add_trace(_stuck(one, named=not index))
    for group in (seeds, fresh or [winner]):
        for index, one in enumerate(group):
            made.add_trace(drawn(one, named=not index).update(line_width=2.5 if one is winner else 1.6))
    if fresh:
        lucky = {"line": {"color": KIND_COLOURS["best"], "width": 1.2, "dash": "dash"}, "name": "best, search's seed"}
        made.add_trace(drawn(winner, named=True).update(**lucky))
    made.update_yaxes(range=zoom([*seeds, *fresh, winner]))
    add_schedules(
        made,
        [  # the baseline's stays visible on top of the same one
            (KIND_NAMES[one.kind], one.run.config, {"color": KIND_COLOURS[one.kind], "width": width})
            for one, width in ((winner, 3.5), (seeds[0], 1.6))
        ],
    )
    return Picture(
        key=key,
        title=title,
        summary=_best_summary(best, seeds, fresh, stuck),
        reading="Each black line is one seed of the baseline: their spread is what luck alone does. Thick grey ends "
        "are on a plateau: the loss fell by less than half of what the curve before and the schedule let expect "
        f"(sure to 95 %). {_LUCKY if fresh else _ALONE} Below: their learning rates.",
        figures=(made,),
    )


def _stuck(one: LossCurve, *, named: bool) -> go.Scatter:
    return go.Scatter(
        x=one.tokens,
        y=one.losses,
        mode="lines",
        line={"color": BLACK, "width": 9},
        opacity=0.25,
        name="on a plateau",
        legendgroup="plateau",
        legendrank=2999,
        showlegend=named,
        hoverinfo="skip",
    )


def _best_summary(
    best: SearchBest, seeds: Sequence[LossCurve], fresh: Sequence[LossCurve], stuck: Sequence[LossCurve]
) -> str:
    on = f" On a plateau at the end: {len(stuck)} of the baseline's {count(len(seeds), 'curve')}."
    if fresh:
        return f"The best config ends at {_ends(fresh)}, the baseline at {_ends(seeds)}.{on}"
    gain = (
        "" if best.gain is None else f", {abs(best.gain):.3f} nats {'below' if best.gain > 0 else 'above'} their mean"
    )
    return f"The best run ends at {best.run.val_loss:.3f} nats{gain} over {count(len(seeds), 'seed')}.{on}"


def _ends(shown: Sequence[LossCurve]) -> str:
    """Final losses in words: their mean and range."""
    losses = [one.run.val_loss for one in shown if one.run.val_loss is not None]
    spread = f" ({min(losses):.3f} to {max(losses):.3f})" if len(losses) > 1 else ""
    return f"{np.mean(losses):.3f} nats over {count(len(losses), 'seed')}{spread}"


def _envelope(seeds: Sequence[LossCurve]) -> tuple[list[float], list[float]]:
    at = seeds[0].tokens
    losses = np.array([np.interp(at, one.tokens, one.losses) for one in seeds])
    return losses.min(axis=0).tolist(), losses.max(axis=0).tolist()
