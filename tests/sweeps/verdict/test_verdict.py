"""The confirmed verdict's sentences: each word where it is due, its numbers, and the commands that it names."""

from __future__ import annotations

import dataclasses
import re
import shlex

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.analysis.attribution import AdviceWord, Attribution, BestWord, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.cli import app
from sweeps.study.sections import MAX_CONFIRM_SEEDS, Confirm
from sweeps.verdict.recommendation import ends, left_open
from sweeps.verdict.verdict import Verdict, verdict
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import CASES, KNOBS, attribution, bimodal, contrast, findings_of, gain, knob

RESULTS = attributions.results()
WHOLE = "by 0.510 nats (95 % interval 0.482 to 0.538, 5 paired seeds)"
"""gain() of 0.51 ± 2.7764 (Student's t, 4 degrees of freedom) * 0.01"""


def words(found: Attribution) -> Verdict:
    return verdict(findings_of(found))


HEADLINES = {
    "broken": "Learning rate and width each break the plateau alone; the best config, which also changes dropout, "
    f"lowers the loss {WHOLE}.",
    "jointly": "Learning rate and width break the plateau only jointly: together they lower the loss by 0.480 nats "
    "(95 % interval 0.452 to 0.508, 5 paired seeds).",
    "necessary": f"The best config breaks the plateau: it lowers the loss {WHOLE}; learning rate is necessary for "
    "that, but no knob is shown to do it alone.",
    "nobody": f"The best config breaks the plateau: it lowers the loss {WHOLE}; no single knob is shown to do it "
    "alone.",
    "improved": "Learning rate and width each improve on the baseline alone; the best config, which also changes "
    f"dropout, lowers the loss {WHOLE}.",
    "one alone": "Learning rate breaks the plateau alone, by 0.400 nats; the search's best config, which also changes "
    "width, is not shown to be better.",
    "head start": "The best config has a head start only: it gains +0.510 nats (95 % interval +0.482 to +0.538, 5 "
    "paired seeds) on fresh seeds, but that shrinks by half or more in longer runs.",
    "head start?": "Not enough evidence: the best config gains +0.510 nats (95 % interval +0.482 to +0.538, 5 paired "
    "seeds) on fresh seeds, but that may be a head start that longer runs would shrink.",
    "diverged": "No config is shown to be better: 2 runs of the best config on fresh seeds diverged.",
    # 0.002 ± 2.7764 * 0.003
    "nothing": "Nothing in this space is shown to beat the baseline by 0.02 nats: the best config gains +0.002 nats "
    "(95 % interval −0.006 to +0.010, 5 paired seeds) on fresh seeds.",
    # 0.05 ± 4.3027 * 0.02
    "undecided": "Not enough evidence: the best config gains +0.050 nats (95 % interval −0.036 to +0.136, 3 paired "
    "seeds) on fresh seeds, which is not shown to exceed 0.02 nats.",
    "unchanged": "No config is shown to be better: the best of the search is the baseline itself.",
}


@pytest.mark.parametrize("case", CASES)
def test_headline(case: str) -> None:
    assert words(CASES[case]()).headline == HEADLINES[case]


ALONE = gain(0.40)


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        (
            {"knobs": KNOBS[:2], "pair": None},
            f"Learning rate and width each break the plateau alone; together they lower the loss {WHOLE}.",
        ),
        ({"knobs": KNOBS[:1]}, f"Learning rate breaks the plateau alone: it lowers the loss {WHOLE}."),
        (
            {"knobs": (KNOBS[0], KNOBS[2])},
            "Learning rate breaks the plateau alone, by 0.400 nats; the best config, which also changes dropout, "
            f"lowers the loss {WHOLE}.",
        ),
        (
            {"word": BestWord.NONE, "decided": False, "effect": gain(0.3, n=1), "advice": ()},
            "Not enough evidence: the best config has too few runs on fresh seeds.",
        ),
        (
            {"word": BestWord.NONE, "decided": False, "effect": None, "advice": ()},
            "Not enough evidence: the best config has too few runs on fresh seeds.",
        ),
        (
            {"word": BestWord.NONE, "diverged": 1, "advice": ()},
            "No config is shown to be better: 1 run of the best config on fresh seeds diverged.",
        ),
    ],
)
def test_headline_of_variants(changes: dict[str, object], headline: str) -> None:
    assert words(attribution(**changes)).headline == headline


@pytest.mark.parametrize("case", CASES)
def test_claims_are_made_where_they_are_due_and_nowhere_else(case: str) -> None:
    found = CASES[case]()
    said = words(found)
    text = "\n".join(said.lines)
    assert bool(re.search(r"\bbreaks? the plateau\b", text)) == (found.word is BestWord.BREAKS)
    assert bool(re.search(r"\bimproves? on the baseline\b", text)) == (found.word is BestWord.IMPROVES)
    assert ("sweep export plateau --iters 600 -o plateau-best.py" in text) == found.broken
    assert ("No config is shown to be better than the baseline" in " ".join(said.next)) == (not found.broken)
    assert ("keep its settings" in " ".join(said.next)) == (not found.broken and found.decided)
    assert any("on a plateau" in sentence for sentence in said.proof)
    for one, sentence in zip(found.knobs, said.knobs, strict=False):
        assert sentence.startswith(f"{one.knob} ")
        assert (" alone, and is necessary;" in sentence) == (one.word is KnobWord.ALONE and one.necessary)
        for word in (KnobWord.UNKNOWN, KnobWord.NO_EFFECT, KnobWord.HURTS):
            assert (f": {word};" in sentence) == (one.word is word)


@pytest.mark.parametrize("case", CASES)
def test_sentences_are_whole(case: str) -> None:
    said = words(CASES[case]())
    fields = dataclasses.asdict(said)
    assert sorted(said.lines) == sorted(
        [fields.pop("headline"), *(line for group in fields.values() for line in group)]
    )
    assert said.lines == (said.headline, *(line for group in said.groups.values() for line in group))
    for line in said.lines:
        assert line.endswith(".")
        assert not re.search(r"None\b(?! of)|\bnan\b|\binf\b|Contrast|\s\s|\(\(|\)\)", line)
        assert not re.search(r"(?<![\w-])-\d", line)  # a true minus before every number
        assert line.count("(") == line.count(")")


@pytest.mark.parametrize(
    ("plateaued", "said"),
    [
        ((0, 4), "The short baseline runs were not on a plateau themselves (0 of 4 ended on one)"),
        ((1, 5), "Most of the short baseline runs were not on a plateau themselves (1 of 5 ended on one)"),
        ((2, 4), "Half of the short baseline runs were not on a plateau themselves (2 of 4 ended on one)"),
    ],
)
def test_an_improvement_says_that_the_baseline_was_on_no_plateau(plateaued: tuple[int, int], said: str) -> None:
    proof = words(attribution(word=BestWord.IMPROVES, plateaued=plateaued)).proof
    assert proof[0].startswith(f"{said}, so the word is “improves”")
    assert words(attribution()).proof[0] == "4 of 5 baseline runs ended on a plateau, by their own curves."


def test_the_proof_has_one_sided_bounds() -> None:
    # t(.95, 4) = 2.1318: 0.51 - 0.0213, 0.25 - 0.0213
    _, effect, lasting = words(attribution()).proof
    assert effect.endswith("the one-sided 95 % lower bound is +0.489, above the 0.02 nats set beforehand.")
    assert lasting.startswith("No mere head start: ")
    assert lasting.endswith("; the one-sided 95 % lower bound is +0.229.")
    _, effect, lasting = words(CASES["head start?"]()).proof
    assert lasting.startswith("A head start is not ruled out: ")
    assert words(CASES["head start"]()).proof[2].startswith("A head start: ")
    # 0.05 - t(.95, 2) * 0.02 = 0.05 - 0.058
    assert "lower bound is −0.008, not above the 0.02 nats set beforehand" in words(CASES["undecided"]()).proof[1]
    missing = words(attribution(word=BestWord.NONE, decided=False, lasting=None)).proof[-1]
    assert missing == "Runs of half the length are missing, so a head start is not ruled out."


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (bimodal(2, 3), "; 3 of 5 seeds broke through (gained more than 0.02)"),
        (bimodal(0, 5), "; 5 of 5 seeds broke through (gained more than 0.02)"),
        (gain(0.03, se=0.02), "; 3 of 5 seeds broke through (gained more than 0.02)"),
        (gain(0.01, se=0.02), "; 2 of 5 seeds gained more than 0.02"),  # 0.01 + 0.0447 * (0.63, 1.26)
        (gain(0.5, se=0.01), ""),
        (gain(-0.5, se=0.01), ""),
    ],
)
def test_outcomes_that_differ_in_kind_are_counted(effect: Contrast, said: str) -> None:
    one = knob("learning_rate", KnobWord.UNKNOWN, effect, more_seeds=3)
    sentence = words(attribution(knobs=(one,), pair=None)).knobs[0]
    assert (said in sentence) if said else ("seeds broke" not in sentence and "seeds gained" not in sentence)
    if effect.method == "permutation":
        assert "5 seeds, by permutation, too few for an interval, p = 0.031)" in sentence
        assert any("is by permutation" in caution for caution in words(attribution(effect=effect)).cautions)
    proof = words(attribution(effect=effect)).proof[1]
    assert proof.endswith(f"{said}.") if said else not proof.endswith(").")


@pytest.mark.parametrize(
    ("stuck", "through", "said"),
    [
        (1, 3, "(4 seeds, by permutation, too few for an interval); one-sided p = 0.062, not above the 0.02 nats"),
        (1, 4, "(5 seeds, by permutation, too few for an interval); the one-sided 95 % lower bound is "),
        (1, 6, ", 7 seeds, by permutation); the one-sided 95 % lower bound is "),
    ],
)
def test_few_seeds_have_no_interval_by_permutation(stuck: int, through: int, said: str) -> None:
    found = attribution(effect=bimodal(stuck, through))
    assert said in words(found).proof[1]


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"paired"}, ["paired by seed"]),
        ({"layout"}, ["paired by seed", "tell of their noise"]),
        ({"unpaired"}, ["are unpaired"]),
        ({"paired", "permutation"}, ["paired by seed", "by permutation"]),
    ],
)
def test_how_intervals_were_made_is_said_of_those_there_are(methods: set[str], said: list[str]) -> None:
    made = [gain(0.3, method=method) for method in sorted(methods)]
    knobs = tuple(knob("dropout", KnobWord.ALONE, effect) for effect in made[1:])
    cautions = words(attribution(effect=made[0], lasting=None, advice=(), knobs=knobs)).cautions
    every = ["paired by seed", "tell of their noise", "are unpaired", "by permutation"]
    assert [each for each in every if any(each in caution for caution in cautions)] == said


def test_a_knobs_sentence() -> None:
    first, second, third = words(attribution()).knobs[:3]
    assert first == (
        "learning_rate 0.001 → 0.003: breaks the plateau alone, and is necessary; alone it gains +0.400 nats (95 % "
        "interval +0.372 to +0.428, 5 paired seeds, p < 0.001); without it the best config loses +0.310 nats (95 % "
        "interval +0.282 to +0.338, 5 paired seeds), more than half of the whole gain."
    )
    assert second.startswith("n_embd 384 → 768: breaks the plateau alone; ")
    assert "half of the whole gain" not in second
    assert third.startswith("dropout 0 → 0.05: no effect shown; ")
    assert "p =" not in third
    assert "only jointly with n_embd" in words(CASES["jointly"]()).knobs[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alone": None}, "not enough evidence; no run of it alone on a fresh seed."),
        ({"alone": gain(0.1, n=1)}, "alone it gains +0.100 nats (1 paired seed, noise unknown)."),
        (
            {"alone": gain(0.1, n=1, low=0.06, high=0.14)},
            "(95 % interval +0.060 to +0.140, 1 paired seed, with the noise of the other runs).",
        ),
        ({"alone": gain(0.1, se=0.06, n=3), "more_seeds": 1}, "; about 1 more seed would decide."),
        ({"alone": gain(0.03, se=0.02, n=3), "more_seeds": None}, "; over 64 more seeds would be needed to decide."),
        ({"alone": gain(0.4), "lasting": contrast(0.01), "more_seeds": 1}, "; a head start is not ruled out."),
        ({"alone": gain(0.4), "lasting": None, "more_seeds": 1}, "; a head start is not ruled out."),
        (
            {"alone": gain(0.1, se=0.06, n=3, method="unpaired"), "more_seeds": 4},
            "3 seeds, unpaired, p = 0.157); 2 of 3 seeds broke through (gained more than 0.02); about 4 more seeds "
            "would decide.",
        ),
    ],
)
def test_what_would_decide_a_knob(changes: dict[str, object], said: str) -> None:
    one = dataclasses.replace(knob("n_embd", KnobWord.UNKNOWN, None), **changes)
    assert words(attribution(knobs=(KNOBS[0], one), pair=None)).knobs[1].endswith(said)


@pytest.mark.parametrize(("case", "open_"), [("undecided", True), ("nothing", False), ("diverged", False)])
def test_a_knob_of_a_config_that_is_not_better_is_left_at_that(case: str, open_: bool) -> None:
    assert all(("would decide" in sentence) == open_ for sentence in words(CASES[case]()).knobs)


def test_pair_and_path() -> None:
    *_, pair, path = words(attribution()).knobs
    assert pair == (
        "Learning rate and width together gain +0.500 nats (95 % interval +0.472 to +0.528, 5 paired seeds), less than "
        "their gains alone add up to: interaction −0.050 nats (95 % interval −0.078 to −0.022, 5 paired seeds)."
    )
    assert path.endswith("(greedy; 2 seeds): learning rate +0.400, then width +0.100, then dropout +0.005.")
    assert ", more than their gains alone add up to: interaction +0.460" in words(CASES["jointly"]()).knobs[-2]
    none = dataclasses.replace(attributions.PAIR, interaction=contrast(0.01))
    assert "; not shown to be more or less than" in words(attribution(pair=none)).knobs[-2]
    rest = (*attributions.PATH[:2], dataclasses.replace(attributions.PATH[3], knob=None, rest=("n_embd", "dropout")))
    assert words(attribution(path=rest)).knobs[-1].endswith("then width and dropout together +0.005.")


def test_advice() -> None:
    said = words(attribution()).advice
    labels = ["learning_rate 0.002: right;", "dropout 0.2, weight_decay 0.2: wrong;"]
    labels += ["warmup_iters 60: no effect shown;", "beta2 0.99: not enough evidence;"]
    for sentence, label, moved in zip(said, labels, ("gains", "loses", "gains", "gains"), strict=True):
        assert sentence.startswith(f"Advice {label} it {moved} ")
    assert said[1] == (
        "Advice dropout 0.2, weight_decay 0.2: wrong; it loses 0.080 nats (95 % interval 0.052 to 0.108, 5 paired "
        "seeds)."
    )
    assert said[3].endswith("; about 4 more seeds would decide.")
    lost = attributions.advice(0, AdviceWord.WRONG, None, diverged=2)
    assert words(attribution(advice=(lost,))).advice == (
        "Advice dropout 0.2, weight_decay 0.2: wrong; diverged or did not fit in memory at 2 seeds.",
    )
    gains = attributions.advice(0, AdviceWord.WRONG, gain(0.1), diverged=1)
    assert (
        "; diverged or did not fit in memory at 1 seed; it gains +0.100 nats"
        in words(attribution(advice=(gains,))).advice[0]
    )
    split = attributions.advice(
        0, AdviceWord.WRONG, gain(-0.4, differences=dict(enumerate([0.1, 0.1, -0.7, -0.7, -0.8])))
    )
    assert words(attribution(advice=(split,))).advice[0].endswith("; 2 of 5 seeds gained more than 0.02.")
    lost_knob = attributions.knob("dropout", KnobWord.HURTS, None, diverged=2)
    assert (
        words(attribution(knobs=(lost_knob,)))
        .knobs[0]
        .endswith(
            ": of no use alone; 2 runs of it alone diverged or did not fit; no run of it alone ended with a loss."
        )
    )
    bare = attributions.advice(1, AdviceWord.UNKNOWN, None)
    assert words(attribution(advice=(bare,))).advice[0].endswith("not enough evidence; no run of it on a fresh seed.")


def test_right_advice_is_named_even_where_the_best_config_is_not_shown_to_be_better() -> None:
    found = dataclasses.replace(CASES["nothing"](), advice=attributions.ANSWERS)
    tried = synthetic.run(5, "candidate", label="candidate: learning_rate 0.002")
    said = verdict(findings_of(found, dataclasses.replace(RESULTS, runs=(*RESULTS.runs, tried))))
    assert said.headline.endswith(" But of the advice, this is right: learning_rate 0.002.")
    assert any("`sweep export plateau --trial 5 --iters 600`" in sentence for sentence in said.next)


def test_of_one_knob_alone_the_config_is_the_baseline_with_that_change() -> None:
    said = words(CASES["one alone"]())
    assert said.best[0] == "A run of 600 iterations; it changes learning_rate 0.001 → 0.003."
    assert said.best[1].startswith("The baseline ends at 3.830 nats, this at 3.430 (means over the baseline's 5 seeds")
    # 0.05 ± 2.7764 * 0.03; the search: 0.525
    assert said.best[-1].startswith("The gain of trial 17, the search's best, is 0.050 nats on fresh seeds; the search")
    assert said.proof[1].startswith("Learning rate alone against the baseline: +0.400 nats")
    assert said.proof[2].startswith("All changes of the search's best, trial 17: +0.050 nats")
    assert "not above the 0.02 nats" in said.proof[2]
    assert said.next[0].startswith("Train the baseline with learning_rate changed: `sweep export plateau")


def test_two_knobs_alone_without_the_best() -> None:
    found = dataclasses.replace(CASES["one alone"](), knobs=KNOBS)
    assert words(found).headline == (
        "Learning rate and width each break the plateau alone, learning rate by 0.400 nats; the search's best config, "
        "which also changes width and dropout, is not shown to be better."
    )


def test_the_best_config_has_its_gain_on_fresh_seeds_beside_the_searchs() -> None:
    settings, loss, gains = words(attribution()).best
    assert settings == (
        "Trial 17 of 600 iterations; it changes learning_rate 0.001 → 0.003, n_embd 384 → 768 and dropout 0 → 0.05."
    )
    # baseline at fresh seeds 3.81 to 3.85, best 3.30 to 3.34; e**3.83 = 46.06, 3.83 / ln 2 / 3.1 = 1.782
    assert loss.startswith(
        "The baseline ends at 3.830 nats, this at 3.320 (means over the baseline's 5 seeds and 5 fresh"
    )
    assert "perplexity 27.66 instead of 46.06, 1.545 bits a byte instead of 1.782" in loss
    # the search: 3.30 against the baseline's mean over six seeds, 3.825
    assert "0.510 nats on fresh seeds; the search had promised 0.525" in gains
    assert "winner of 2 trials" in gains


@pytest.mark.parametrize(("method", "baseline"), [("paired", 3.83), ("unpaired", 3.825)])
def test_means_are_over_the_seeds_that_the_effect_is_over(method: str, baseline: float) -> None:
    found = ends(findings_of(attribution(effect=gain(0.51, method=method))))
    assert found is not None
    assert found.means == pytest.approx((baseline, 3.32))
    assert ends(findings_of(attribution(effect=None))) is None


@pytest.mark.parametrize(
    ("found", "commands"),
    [
        (attribution(), ["sweep export plateau --iters 600 -o plateau-best.py", "sweep confirm plateau --seeds 6"]),
        (attribution(advice=()), ["sweep export plateau --iters 600 -o plateau-best.py"]),
        (CASES["nothing"](), ["sweep confirm plateau --seeds 6"]),  # the advice is still open; the knobs' words stay
        (CASES["undecided"](), ["sweep confirm plateau --seeds 12"]),  # knobs have 3 and want 9
        (CASES["unchanged"](), []),
        (
            attribution(knobs=(KNOBS[0], knob("n_embd", KnobWord.UNKNOWN, None)), advice=()),
            ["sweep export plateau --iters 600 -o plateau-best.py", "sweep confirm plateau"],
        ),
    ],
)
def test_what_to_train_next_and_what_would_decide(found: Attribution, commands: list[str]) -> None:
    said = " ".join(words(found).next)
    assert re.findall(r"`([^`]+)`", said) == commands


def test_what_no_number_of_seeds_decides_is_said_to_be_small() -> None:
    far = [
        knob("n_embd", KnobWord.UNKNOWN, gain(0.03, se=0.03), more_seeds=None),
        knob("dropout", KnobWord.UNKNOWN, gain(0.03, se=0.02, n=4), more_seeds=40),
    ]
    said = words(attribution(knobs=(KNOBS[0], *far), advice=(), pair=None)).next
    assert "Over 32 seeds would be needed to decide n_embd and dropout: " in said[-1]
    assert not any("sweep confirm" in sentence for sentence in said)


def test_a_gain_that_is_shown_is_open_only_as_a_head_start() -> None:
    found = CASES["head start?"]()
    best = left_open(found)[0]
    assert best.name == "the best config"
    # 0.01 ± 0.01 over 5 seeds: t(.95) / sqrt((5 + more) / 5) * 0.01 < 0.01 is first so at 5 + 12 seeds at most
    assert best.seeds is not None
    assert 5 < best.seeds <= 17
    settled = knob("n_embd", KnobWord.UNKNOWN, gain(0.4), lasting=contrast(0.2), more_seeds=1)
    assert left_open(attribution(knobs=(KNOBS[0], settled), advice=())) == ()


def test_the_command_takes_the_seeds_that_are_named() -> None:
    assert Confirm(seeds=MAX_CONFIRM_SEEDS).seeds == MAX_CONFIRM_SEEDS
    with pytest.raises(ValidationError):
        Confirm(seeds=MAX_CONFIRM_SEEDS + 1)


@pytest.mark.parametrize("case", [*CASES, None])
def test_every_command_is_one_that_sweep_understands(case: str | None) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    said = verdict(findings_of(CASES[case]() if case else None))
    for line in said.lines:
        for command in re.findall(r"`([^`]+)`", line):
            program, name, *arguments = shlex.split(command)
            assert program == "sweep"
            commands[name].make_context(name, arguments)


def test_before_the_confirm_phase_the_screening_stands() -> None:
    said = verdict(Findings(synthetic.full()))
    assert said.headline.startswith("Changed alone, ")
    assert "not yet proven" in said.headline
    assert said.proof == said.screening == ()
    assert said.next == (
        "`sweep confirm plateau` proves or refutes this on fresh seeds; before that no config is shown to be better "
        "than the baseline.",
    )
    assert verdict(Findings(dataclasses.replace(RESULTS, runs=RESULTS.runs[:7]))).proof == ()


def test_a_study_that_was_swept_and_confirmed_is_told_as_it_is() -> None:
    """By `synthetic.surface` rate 3e-3 gains .085 and width 768 .055; dropout .05 costs .002, less than min_effect."""
    said = verdict(Findings(attributions.swept()))
    assert said.headline.startswith(
        "Learning rate and width each break the plateau alone; the best config, which also "
    )
    assert [sentence.partition(";")[0] for sentence in said.knobs[:3]] == [
        "learning_rate 0.001 → 0.003: breaks the plateau alone",
        "n_embd 384 → 768: breaks the plateau alone",
        "dropout 0 → 0.05: no effect shown",
    ]
    assert [sentence.partition(";")[0] for sentence in said.advice[:2]] == [
        "Advice learning_rate 0.002: right",
        "Advice dropout 0.2, weight_decay 0.2: wrong",
    ]
    assert any("raises the loss" in sentence for sentence in said.screening)


@settings(max_examples=60, deadline=None)
@given(
    mean=st.floats(-2, 2),
    se=st.floats(1e-3, 1),
    n=st.integers(1, 9),
    word=st.sampled_from(list(KnobWord)),
    more=st.none() | st.integers(1, 64),
)
def test_the_numbers_of_a_knob_are_in_its_sentence(
    mean: float, se: float, n: int, word: KnobWord, more: int | None
) -> None:
    effect = gain(mean, se=se, n=n)
    one = knob("learning_rate", word, effect, partner="n_embd", more_seeds=more)
    sentence = words(attribution(knobs=(one, KNOBS[1]), pair=None)).knobs[0].replace("−", "-")
    shown = re.search(
        r"gains ([+-][\d.]+) nats \((?:95 % interval ([+-][\d.]+) to ([+-][\d.]+), )?(\d) paired", sentence
    )
    assert shown is not None
    assert float(shown[1]) == pytest.approx(mean, abs=6e-4)
    assert int(shown[4]) == n
    ends_ = [None if each is None else float(each) for each in shown.groups()[1:3]]
    assert ends_ == [pytest.approx(each, abs=6e-4) if each is not None else None for each in (effect.low, effect.high)]
