"""Pictures of the confirmed verdict: their data against cases by hand, and that the figures show them."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.analysis.arms import Arm, Arms
from sweeps.analysis.attribution import AdviceWord, Attribution, PathStep
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.analysis.findings import Findings
from sweeps.pruning import plateau
from sweeps.report.figures import ablation_path, forest, seeds
from sweeps.report.figures.ablation_path import stairs
from sweeps.report.figures.best_curve import best_curve, best_seeds, stuck_parts
from sweeps.report.figures.curves import add_schedules, curves, rates
from sweeps.report.figures.forest import advice_rows, knob_rows, reach
from sweeps.report.figures.seeds import SeedPair, seed_pairs
from sweeps.report.figures.style import Picture, figure
from sweeps.store.records import Results
from sweeps.study.proposals import config_of
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import FLOOR, SEED
from trainer.config import TrainConfig
from trainer.schedule import lr_at


def _named(drawn: go.Figure, name: str) -> Any:
    """The trace of that name."""
    (found,) = (trace for trace in drawn.data if trace.name == name)
    return found


def _texts(drawn: go.Figure) -> list[str]:
    return [note.text for note in drawn.layout.annotations]


def _pairs(*losses: tuple[float | None, float | None], half: bool = False) -> tuple[SeedPair, ...]:
    return tuple(
        SeedPair(seed=SEED + 1 + i, half=half, baseline=baseline, best=best)
        for i, (baseline, best) in enumerate(losses)
    )


@pytest.mark.parametrize("case", attributions.CASES)
def test_every_verdict_gets_a_sentence_and_what_can_be_drawn(case: str) -> None:
    found = attributions.CASES[case]()
    for picture in (forest.effects(found), ablation_path.path(found), seeds.seeds((), found)):
        assert picture.summary.endswith("."), picture.summary
        assert bool(picture.reading) == bool(picture.figures)
        for drawn in picture.figures:
            assert drawn.layout.xaxis.title.text
            assert drawn.layout.title.text is None
            assert drawn.to_json()
    assert forest.effects(found).figures or case == "unchanged"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("broken", ["breaks the plateau", "breaks it alone, necessary", "breaks it alone", "no effect shown"]),
        ("improved", ["improves", "improves alone, necessary", "improves alone", "no effect shown"]),
        (
            "jointly",
            ["breaks the plateau", "only jointly with n_embd", "only jointly with learning_rate", "no effect shown"],
        ),
        ("necessary", ["breaks the plateau", "necessary", "not enough evidence", "no effect shown"]),
        ("nobody", ["breaks the plateau", "not enough evidence", "not enough evidence", "raises the loss"]),
        ("head start", ["not shown", "not enough evidence", "not enough evidence"]),
    ],
)
def test_words_of_the_forest(case: str, words: list[str]) -> None:
    found = attributions.CASES[case]()
    assert [row.word for row in knob_rows(found)] == words
    for word in words[1:]:
        assert word in forest.effects(found).summary


def test_rows_are_the_whole_change_then_each_knob_alone_and_reset() -> None:
    found = attributions.attribution()
    first, rate, width, _ = knob_rows(found)
    assert first.label == "all 3 changes together"
    assert [(one.kind, one.effect) for one in first.effects] == [("all together", found.effect)]
    assert rate.label == "learning_rate 0.001 → 0.003"
    assert width.label == "n_embd 384 → 768"
    knob = found.knobs[0]
    assert [one.effect for one in rate.effects] == [knob.alone, knob.reset]
    assert [one.test and one.test[1] for one in rate.effects] == [knob.lasting, knob.needed]


def test_the_forest_shows_each_mean_interval_and_seed() -> None:
    found = attributions.attribution()
    drawn = forest.effects(found).figures[0]
    for kind, effects in {
        "all together": [found.effect],
        "the knob alone": [knob.alone for knob in found.knobs],
        "lost when it is reset": [knob.reset for knob in found.knobs],
    }.items():
        index = drawn.data.index(_named(drawn, kind))
        ticks, bars, marks = drawn.data[index - 2 : index + 1]
        known = [effect for effect in effects if effect is not None]
        assert list(marks.x) == [effect.mean for effect in known]
        assert [x for x in bars.x if x is not None] == [end for one in known for end in (one.low, one.high)]
        assert sorted(ticks.x) == sorted(x for one in known for x in one.differences.values())
        assert all(f"{effect.n} seeds" in told for effect, told in zip(known, marks.customdata, strict=True))
    assert [round(y) for y in _named(drawn, "lost when it is reset").y] == [1, 2, 3]
    (band,) = (shape for shape in drawn.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-FLOOR, FLOOR)
    hover = _named(drawn, "the knob alone").customdata[0]
    assert "Holm" in hover
    assert "+0.400 nats (+0.372 to +0.428, 95 %), 5 seeds" in hover  # 0.4 ± t(.975, 4) * 0.01
    assert "no mere head start: +0.220" in hover


def test_advice_is_a_panel_of_its_own_with_what_diverged() -> None:
    lost = attributions.advice(0, AdviceWord.WRONG, None, diverged=2)
    found = attributions.attribution(advice=(lost, *attributions.ANSWERS[1:]))
    assert [row.word for row in advice_rows(found)] == [
        "wrong, 2 runs diverged",
        "no effect shown",
        "right",
        "not enough evidence",
    ]
    picture = forest.effects(found)
    assert len(picture.figures) == 2
    assert list(_named(picture.figures[1], "the advice").y) == [1, 2, 3]
    assert "of 4 pieces of advice: 1 right, 1 wrong, 1 no effect shown and 1 not enough evidence" in picture.summary
    assert len(forest.effects(attributions.attribution(advice=())).figures) == 1


def test_a_loss_far_beyond_the_rest_stands_at_the_edge_with_its_number() -> None:
    answers = (*attributions.ANSWERS, attributions.advice(0, AdviceWord.WRONG, attributions.gain(-4.0)))
    drawn = forest.effects(attributions.attribution(advice=answers)).figures[1]
    marks = _named(drawn, "the advice")
    low, high = drawn.layout.xaxis.range
    assert all(low < x < high for x in marks.x)
    assert [text.strip() for text in marks.text] == ["", "", "", "", "−4.000"]
    assert marks.x[-1] == min(marks.x) > -2
    assert "−4.000 nats" in marks.customdata[-1]


effects = st.lists(
    st.builds(
        lambda mean, se, n: attributions.gain(mean, se=se, n=n),
        st.floats(-5, 5),
        st.floats(1e-3, 1),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=6,
)


@given(effects)
def test_the_picture_reaches_every_gain_and_no_further_than_needed(found: list[Contrast]) -> None:
    low, high = reach(found, FLOOR)
    seen = [value for one in found for value in (one.mean, *one.differences.values())]
    assert low <= -FLOOR < FLOOR <= high
    assert high >= max(seen)
    assert low <= min(seen) or low <= -max(*seen, FLOOR)
    ends = [end for one in found for end in (one.low, one.high) if end is not None]
    assert high <= max([FLOOR, *seen, *ends])
    assert low >= min([-FLOOR, *seen, *ends])


def test_labels_and_words_fit_side_by_side_on_a_phone() -> None:
    long = dataclasses.replace(attributions.KNOBS[0], knob="gradient_accumulation_steps", was=1, new=6.1234e-4)
    found = attributions.attribution(knobs=(long, *attributions.jointly().knobs))
    drawn = forest.effects(found).figures[0]
    notes = [note for note in drawn.layout.annotations if note.text]
    for y, pair in itertools.groupby(sorted(notes, key=lambda note: note.y), key=lambda note: note.y):
        left, right = sorted(pair, key=lambda note: note.x)
        widest = [max(map(len, note.text.removeprefix("<b>").split("<br>"))) for note in (left, right)]
        assert sum(widest) <= 48, y
        assert (left.xanchor, right.xanchor) == ("left", "right")
    assert "learning_rate<br>0.001 → 0.003" in _texts(drawn) or "learning_rate 0.001 → 0.003" in _texts(drawn)


def test_stairs_go_down_by_the_drops() -> None:
    steps = stairs(attributions.attribution())
    assert [step.label for step in steps] == [
        "baseline",
        "learning_rate 0.001 → 0.003",
        "n_embd 384 → 768",
        "dropout 0 → 0.05",
    ]
    assert [step.level for step in steps] == pytest.approx([3.82, 3.42, 3.32, 3.315])
    assert [step.start for step in steps] == pytest.approx([3.82, 3.82, 3.42, 3.32])


def test_the_path_ends_where_a_drop_is_not_known() -> None:
    unknown = dataclasses.replace(attributions.PATH[2], drop=None)
    found = attributions.attribution(path=(*attributions.PATH[:2], unknown, *attributions.PATH[3:]))
    assert len(stairs(found)) == 2
    assert "so far" in ablation_path.path(found).summary
    assert stairs(attributions.attribution(path=())) == ()
    assert not ablation_path.path(attributions.attribution(path=attributions.PATH[:1])).figures


def test_the_waterfall_shows_drops_seeds_and_the_last_step_together() -> None:
    worse = PathStep(
        knob=None, rest=("n_embd", "dropout"), losses={1338: 3.45, 1339: 3.47}, drop=attributions.contrast(-0.04, n=2)
    )
    found = attributions.attribution(path=(*attributions.PATH[:2], worse))
    picture = ablation_path.path(found)
    (drawn,) = picture.figures
    falls, rises = _named(drawn, "loss falls"), _named(drawn, "loss rises")
    assert (falls.base, falls.x) == (pytest.approx((3.82,)), pytest.approx((-0.40,)))
    assert (rises.base, rises.x) == (pytest.approx((3.42,)), pytest.approx((0.04,)))
    bars, ticks, mean = drawn.data[-3:]
    assert list(mean.x) == pytest.approx([3.82, 3.42, 3.46])
    assert sorted(ticks.x) == sorted(loss for step in found.path for loss in step.losses.values())
    drop = found.path[1].drop
    assert drop is not None
    assert drop.low is not None
    assert bars.x[1] == pytest.approx(3.82 - drop.low)
    assert "<b>rises by 0.040<br>(−0.087 to 0.167)</b>" in _texts(drawn)  # 0.04 ± t(.975, 1) * 0.01
    assert "with the rest (n_embd and dropout) it rises by 0.040 (−0.087 to 0.167): 3.460 with the best" in (
        picture.summary
    )


def _confirmed() -> Results:
    """Three seeds of the baseline, two of the best; at half the horizon two and one."""
    study = synthetic.study()
    winner = synthetic.run(17, params=synthetic.params_of(attributions.BEST), val_loss=3.3)
    winner = dataclasses.replace(winner, config=config_of(study, winner.params, seed=SEED, vocab_size=2048))
    arms = Arms(study, winner, vocab_size=2048)
    runs = [winner]
    for arm, losses in {
        Arm(): (3.80, 3.81, 3.82),
        arms.winner: (None, 3.31, 3.33),
        Arm(half=True): (None, 4.0, 4.1),
        Arm(arms.winner.knobs, half=True): (None, None, 3.7),
    }.items():
        for seed, loss in enumerate(losses, start=SEED):
            if loss is not None:
                proposal = arms.proposal(arm, seed)
                kind = "baseline" if arm == Arm() and seed == SEED else "confirm"
                runs.append(
                    synthetic.run(
                        100 + len(runs),
                        kind,
                        phase=kind,
                        seed=seed,
                        config=proposal.config,
                        params=proposal.params,
                        val_loss=loss,
                        optuna_study="plateau" if kind == "baseline" else "plateau-confirm",
                    )
                )
    return synthetic.results(runs, study=study)


def test_pairs_are_of_fresh_seeds_the_half_horizon_first() -> None:
    results = _confirmed()
    findings = Findings(results)
    found = findings.attribution
    assert found is not None
    assert [(pair.half, pair.seed, pair.baseline, pair.best) for pair in seed_pairs(findings.evidence, found)] == [
        (True, SEED + 1, 4.0, None),
        (True, SEED + 2, 4.1, 3.7),
        (False, SEED, 3.80, None),  # the search's own, on which the best was chosen
        (False, SEED + 1, 3.81, 3.31),
        (False, SEED + 2, 3.82, 3.33),
    ]


def test_a_seed_is_a_line_and_says_whether_it_broke_through() -> None:
    whole = _pairs((3.80, 3.40), (3.82, 3.81), (3.85, 3.30), (3.79, None))
    half = _pairs((4.0, 3.7), half=True)
    found = attributions.attribution()
    picture = seeds.seeds((*half, *whole), found)
    (drawn,) = picture.figures
    through, stuck = _named(drawn, "more than 0.02 lower"), _named(drawn, "not so")
    assert list(through.y) == [4.0, 3.7, None, 3.80, 3.40, None, 3.85, 3.30, None]
    assert list(stuck.y) == [3.82, 3.81, None]
    assert stuck.x[:2] == through.x[3:5]
    assert stuck.marker.symbol != through.marker.symbol
    assert list(_named(drawn, "unpaired").y) == [3.79]
    (mean,) = (trace for trace in drawn.data if "mean of" in (trace.hovertemplate or ""))
    assert list(mean.y) == pytest.approx([statistics.fmean((3.80, 3.82, 3.85)), statistics.fmean((3.40, 3.81, 3.30))])
    assert "on 2 of 3 seeds (+0.010 to +0.550) and at half of it on 1 of 1 seed (+0.300)" in picture.summary
    assert list(drawn.layout.xaxis.ticktext) == ["baseline", "best", "baseline", "best"]
    low, high = drawn.layout.yaxis.range
    assert low < 3.30
    assert high > 4.0


def test_runs_that_diverged_are_said() -> None:
    picture = seeds.seeds(_pairs((3.8, 3.4)), attributions.diverged())
    assert "2 runs of the best diverged" in picture.summary
    assert len(picture.figures[0].layout.xaxis.ticktext) == 2


def test_pictures_begin_with_the_confirm_phase() -> None:
    assert ablation_path.pictures(Findings(synthetic.full())) == ()
    made = ablation_path.pictures(Findings(_confirmed()))
    assert [picture.key for picture in made] == ["confirmed-effects", "ablation-path", "every-seed"]
    assert all(isinstance(picture, Picture) and picture.summary.endswith(".") for picture in made)
    assert made[-1].figures


def test_a_plateaus_part_is_the_curves_end_since_the_verdict_has_it() -> None:
    free = synthetic.run(0, "baseline", points=synthetic.points(synthetic.BASELINE, 3.5, noise=0.001))
    stuck = dataclasses.replace(free, id=1, points=synthetic.stuck(free.points, since=8))
    (part,) = stuck_parts([free, stuck])
    assert part.run.id == 1
    found = plateau.verdict(losses_of(stuck), schedule_of(stuck.config))
    assert found.since is not None
    assert part.tokens == tuple(point.tokens for point in stuck.points[found.since :])
    assert part.losses == tuple(point.val_loss for point in stuck.points[found.since :])


def _stuck_study() -> Results:
    """The study of `attributions` whose baseline is on a plateau at every seed."""
    results = attributions.results()
    runs = [
        dataclasses.replace(run, points=synthetic.stuck(run.points, since=8)) if run.origin == "baseline" else run
        for run in results.runs
    ]
    return dataclasses.replace(results, runs=tuple(runs))


def test_the_bests_fresh_seeds_stand_against_the_baselines_with_its_plateau_marked() -> None:
    results = _stuck_study()
    best = results.best
    assert best is not None
    assert [run.seed for run in best_seeds(results, best)] == [SEED + index for index in range(1, 6)]
    picture = best_curve(Findings(results))
    (drawn,) = picture.figures
    upper = [trace for trace in drawn.data if trace.yaxis != "y2"]
    groups = [trace.legendgroup for trace in upper]
    assert groups.count("baseline") == groups.count("plateau") == 6
    assert groups.count("best") == 6
    assert _named(drawn, "best, search's seed").line.dash == "dash"
    assert "The best config ends at 3.320 nats over 5 seeds (3.300 to 3.340)" in picture.summary
    assert "the baseline at 3.825 nats over 6 seeds (3.800 to 3.850)" in picture.summary
    assert "6 of the baseline's 6 curves" in picture.summary


def test_without_fresh_seeds_the_winner_stands_alone() -> None:
    drawn = best_curve(Findings(synthetic.full())).figures[0]
    assert _named(drawn, "range of the seeds").fill == "toself"
    best = [trace for trace in drawn.data if trace.legendgroup == "best"]
    assert [trace.line.width for trace in best] == [2.5]


def test_the_baseline_as_best_has_no_seeds_of_its_own() -> None:
    results = attributions.results()
    only = tuple(run for run in results.runs if run.id < 10 and run.origin == "baseline")
    best = only[0]
    assert best_seeds(dataclasses.replace(results, runs=only), best) == ()


def test_runs_of_the_confirm_phase_are_drawn_among_all_curves() -> None:
    results = attributions.results()
    runs = tuple(
        dataclasses.replace(run, origin="confirm", phase="confirm")
        if run.origin == "baseline" and run.seed != SEED
        else run
        for run in results.runs
    )
    kinds = {one.run.id: one.kind for one in curves(dataclasses.replace(results, runs=runs))}
    assert [kinds[index] for index in range(6)] == ["baseline"] * 6
    assert kinds[17] == "best"
    assert kinds[101] == "confirm"


configs = st.builds(
    lambda iters, warmup, decay, ratio, on: TrainConfig(
        max_iters=iters,
        warmup_iters=int(warmup * iters),
        lr_decay_iters=max(int(warmup * iters) + 1, int(decay * iters)),
        learning_rate=1e-3,
        min_lr=1e-3 * ratio,
        decay_lr=on,
        eval_interval=max(1, iters // 20),
    ),
    st.integers(20, 30_000),
    st.floats(0, 0.4),
    st.floats(0.5, 1),
    st.floats(0, 1),
    st.booleans(),
)


@given(configs)
def test_a_drawn_schedule_is_the_trainers(config: TrainConfig) -> None:
    found = rates(config)
    steps = range(0, config.max_iters, max(1, config.max_iters // 500))
    tokens = [step * config.tokens_per_iter for step in steps]
    assert np.interp(tokens, found.tokens, found.rates) == pytest.approx(
        [lr_at(step, config) for step in steps], abs=2e-5
    )
    assert max(found.rates) == pytest.approx(config.learning_rate, rel=1e-9)  # the peak, however short the warm-up
    assert found.tokens[0] == 0
    assert found.tokens[-1] == (config.max_iters - 1) * config.tokens_per_iter
    assert len(found.tokens) <= 202


def test_schedules_stand_under_the_curves_on_the_same_tokens() -> None:
    made = figure("tokens", "loss")
    made.update_yaxes(range=[3, 4])
    other = synthetic.BASELINE.replace(learning_rate=2e-3)
    add_schedules(made, [("one", synthetic.BASELINE, {"color": "#000000"}), ("other", other, {"color": "#0072B2"})])
    assert [trace.yaxis for trace in made.data] == ["y2", "y2"]
    assert max(made.data[1].y) == pytest.approx(2e-3)
    assert made.layout.xaxis.anchor == "y2"
    below, above = made.layout.yaxis2.domain, made.layout.yaxis.domain
    assert 0 == below[0] < below[1] < above[0] < above[1] == 1
    assert made.layout.height > figure("tokens", "loss").layout.height
    assert made.layout.yaxis2.range is None
    assert tuple(made.layout.yaxis.range) == (3, 4)


def test_attributions_of_one_seed_are_drawn_without_intervals() -> None:
    found: Attribution = attributions.attribution(effect=attributions.gain(0.5, n=1), knobs=(), advice=())
    picture = forest.effects(found)
    assert "interval not known" in picture.summary
    assert "1 fresh seed" in picture.summary
    assert picture.figures[0].data[1].x == ()
