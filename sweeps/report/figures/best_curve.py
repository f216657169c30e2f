"""Loss curves of the best config against the baseline's seeds, with the parts that were on a plateau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.arms import PHASE
from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.analysis.findings import Findings
from sweeps.analysis.screening import SearchBest
from sweeps.pruning import plateau
from sweeps.report.figures.curves import (
    LOSS,
    TOKENS,
    LossCurve,
    add_schedules,
    band_trace,
    curve_trace,
    loss_curve,
    zoom,
)
from sweeps.report.figures.style import BLACK, KIND_COLOURS, KIND_NAMES, Picture, new_figure, no_picture
from sweeps.store.records import Results, Run
from sweeps.text import count
from trainer.points import Point
from trainer.schedule import evaluation_of

_FRESH_SEEDS = (
    "The best config's lines are fresh seeds; dashed: the search's own seed, on which it is the luckiest of many."
)
_ONE_SEED = "The best run is the winner of the whole search on one seed."


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Curves of the baseline and the best config, each with at least one evaluation."""

    seeds: tuple[LossCurve, ...]
    """of the baseline, at least one"""
    winner: LossCurve
    """of the search's best run"""
    fresh: tuple[LossCurve, ...]
    """of the best config on fresh seeds"""
    stuck: tuple[LossCurve, ...]
    """the parts of `seeds` that are on a plateau"""


def comparison(results: Results, best: Run) -> Comparison | None:
    """Return the curves to compare; None: the baseline or the best has none."""
    seeds = tuple(curve for run in results.baseline_runs if (curve := loss_curve(run, kind="baseline")).tokens)
    winner = loss_curve(best, kind="best")
    if not seeds or not winner.tokens:
        return None
    return Comparison(
        seeds=seeds,
        winner=winner,
        fresh=tuple(curve for run in best_seeds(results, best) if (curve := loss_curve(run, kind="best")).tokens),
        stuck=stuck_parts([seed.run for seed in seeds]),
    )


def best_seeds(results: Results, best: Run) -> tuple[Run, ...]:
    """Return the complete runs of the best config on fresh seeds; none if the best is the baseline."""
    if best.origin == "baseline":
        return ()
    return tuple(
        run
        for run in results.runs
        if run.phase == PHASE and run.val_loss is not None and run.config == best.config.replace(seed=run.seed)
    )


def stuck_parts(runs: Sequence[Run]) -> tuple[LossCurve, ...]:
    """Return the part of each curve that the plateau test finds stuck; runs that aren't stuck are left out."""
    verdicts = plateau.verdicts([losses_of(run) for run in runs], [schedule_of(run.config) for run in runs])
    return tuple(
        loss_curve(replace(run, points=_since(run, verdict.since)))
        for run, verdict in zip(runs, verdicts, strict=True)
        if verdict.since is not None
    )


def _since(run: Run, evaluation: int) -> tuple[Point, ...]:
    return tuple(point for point in run.points if evaluation_of(point.step, run.config) >= evaluation)


def best_curve_picture(findings: Findings) -> Picture:
    """Draw the best config's curves, on fresh seeds where there are any, and each seed of the baseline."""
    key, title = "best-curve", "Loss curves of the best and the baseline"
    results, best = findings.results, findings.screening.best
    curves = None if best is None else comparison(results, best.run)
    if best is None or curves is None:
        has_baseline = any(loss_curve(run).tokens for run in results.baseline_runs)
        missing = "the search has no complete trial" if has_baseline else "the baseline has no complete run"
        return no_picture(key, title, f"Nothing to compare yet: {missing}.")
    return Picture(
        key=key,
        title=title,
        summary=_summary(best, curves),
        reading="Each thin line of the baseline is one seed: their spread is what luck alone does. Thick grey ends "
        "are on a plateau: the loss fell by less than half of what the earlier curve and the schedule predict "
        f"(sure to 95 %). {_FRESH_SEEDS if curves.fresh else _ONE_SEED} Below: their learning rates.",
        figures=(_figure(curves),),
    )


def _summary(best: SearchBest, curves: Comparison) -> str:
    seeds = count(len(curves.seeds), "curve")
    on_plateau = f"On a plateau at the end: {len(curves.stuck)} of the baseline's {seeds}."
    if curves.fresh:
        best_ends, baseline_ends = _final_losses(curves.fresh), _final_losses(curves.seeds)
        return f"The best config ends at {best_ends}, the baseline at {baseline_ends}. {on_plateau}"
    gain = ""
    if best.gain is not None:
        gain = f", {abs(best.gain):.3f} nats {'below' if best.gain > 0 else 'above'} their mean"
    over = count(len(curves.seeds), "seed")
    return f"The best run ends at {best.run.val_loss:.3f} nats{gain} over {over}. {on_plateau}"


def _final_losses(curves: Sequence[LossCurve]) -> str:
    """Return the mean and the range of the final losses in words."""
    losses = [curve.run.val_loss for curve in curves if curve.run.val_loss is not None]
    spread = f" ({min(losses):.3f} to {max(losses):.3f})" if len(losses) > 1 else ""
    return f"{np.mean(losses):.3f} nats over {count(len(losses), 'seed')}{spread}"


def _figure(curves: Comparison) -> go.Figure:
    figure = new_figure(TOKENS, LOSS)
    winner, seeds = curves.winner, curves.seeds
    if len(seeds) > 1:
        figure.add_trace(_envelope(seeds))
    for number, part in enumerate(curves.stuck):
        figure.add_trace(_plateau_trace(part, named=number == 0))
    for number, seed in enumerate(seeds):
        figure.add_trace(curve_trace(seed, named=number == 0).update(line_width=1.6))
    for number, fresh in enumerate(curves.fresh):
        figure.add_trace(curve_trace(fresh, named=number == 0).update(line_width=1.6))
    if curves.fresh:
        dashed = {"color": KIND_COLOURS["best"], "width": 1.2, "dash": "dash"}
        figure.add_trace(curve_trace(winner, named=True).update(line=dashed, name="best, search's seed"))
    else:
        figure.add_trace(curve_trace(winner, named=True).update(line_width=2.5))
    figure.update_yaxes(range=zoom([*seeds, *curves.fresh, winner]))
    # the baseline's is thinner and on top, so that both are seen where they coincide
    schedules = [
        (KIND_NAMES[curve.kind], curve.run.config, {"color": KIND_COLOURS[curve.kind], "width": width})
        for curve, width in ((winner, 3.5), (seeds[0], 1.6))
    ]
    return add_schedules(figure, schedules)


def _envelope(seeds: Sequence[LossCurve]) -> go.Scatter:
    """Return the range of the seeds' losses, interpolated at the first seed's evaluations."""
    tokens = seeds[0].tokens
    losses = np.array([np.interp(tokens, seed.tokens, seed.losses) for seed in seeds])
    low, high = losses.min(axis=0).tolist(), losses.max(axis=0).tolist()
    return band_trace(tokens, low, high, name="range of the seeds")


def _plateau_trace(part: LossCurve, *, named: bool) -> go.Scatter:
    return go.Scatter(
        x=part.tokens,
        y=part.losses,
        mode="lines",
        line={"color": BLACK, "width": 9},
        opacity=0.25,
        name="on a plateau",
        legendgroup="plateau",
        legendrank=2999,
        showlegend=named,
        hoverinfo="skip",
    )
