"""The sentence that answers: the knob that gains most, then the changes together, each with its size and interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from sweeps.analysis.attribution import BestWord, CandidateWord, KnobWord
from sweeps.analysis.findings import Findings
from sweeps.verdict.glance import answer_of
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import CASES, KNOBS, attribution, contrast, findings_of, gain, knob

# gain() is Student's t with 4 degrees of freedom: 2.7764 * 0.01 on either side of the mean
RATE = "by 0.40 nats (95 % interval 0.37 to 0.43, 5 seeds)"
ALL = "gain 0.51 (0.48 to 0.54)"
WHOLE = "0.51 nats (95 % interval 0.48 to 0.54, 5 seeds)"
NOTHING = "No config is shown to be better than the baseline"
SENTENCES = {
    "broken": f"Learning rate 0.001 → 0.003 breaks the plateau alone, {RATE}; so does width; all 3 changes together "
    f"{ALL}.",
    "jointly": "Learning rate and width break the plateau only together, by 0.48 nats (95 % interval 0.45 to 0.51, 5 "
    f"seeds); all 3 changes together {ALL}.",
    "necessary": "Learning rate 0.001 → 0.003 is necessary: without it the best config loses 0.40 nats (95 % interval "
    "0.37 to 0.43, 5 seeds); all 3 changes together break the plateau, by 0.51 (0.48 to 0.54).",
    "nobody": f"The best config, which changes learning rate, width and dropout, breaks the plateau by {WHOLE}; no "
    "knob is shown to do it alone.",
    "improved": f"Learning rate 0.001 → 0.003 improves on the baseline alone, {RATE}; so does width; all 3 changes "
    f"together {ALL}.",
    "one alone": f"Learning rate 0.001 → 0.003 breaks the plateau alone, {RATE}; the search's best config, which also "
    "changes width, is not shown to be better.",
    # 1.18 ± 4.3027 * 0.03, 1.31 ± 4.3027 * 0.03
    "gaining": "Learning rate 0.001 → 0.003 gains 1.18 nats (95 % interval 1.05 to 1.31, 3 seeds), not yet shown to "
    "last; width breaks the plateau alone; all 3 changes together gain 1.31 (1.18 to 1.44).",
    # 0.002 ± 2.7764 * 0.003
    "gaining alone": "Learning rate 0.001 → 0.003 gains 0.40 nats (95 % interval 0.37 to 0.43, 5 seeds), not yet shown "
    "to last; the search's best config is not shown to be better than the baseline: the best gains 0.002 nats (95 % "
    "interval −0.006 to 0.010, 5 seeds), less than the 0.02 nats that count.",
    # 0.46 ± 12.706 * 0.001, 0.68 ± 4.3027 * 0.01
    "perhaps lasting": "Dropout 0 → 0.05 gains 0.460 nats (95 % interval 0.447 to 0.473, 2 seeds), not yet shown to "
    "last; the search's best config is not shown to be better than the baseline: the best gains 0.68 nats (95 % "
    "interval 0.64 to 0.72, 3 seeds), not yet shown to last.",
    "head start": f"{NOTHING}: the best gains {WHOLE}, but half or more of this is gone in longer runs.",
    "head start?": f"{NOTHING}: the best gains {WHOLE}, not yet shown to last.",
    "diverged": f"{NOTHING}: 2 runs of the best on fresh seeds diverged.",
    "nothing": f"{NOTHING}: the best gains 0.002 nats (95 % interval −0.006 to 0.010, 5 seeds), less than the 0.02 "
    "nats that count.",
    # 0.05 ± 4.3027 * 0.02
    "undecided": f"{NOTHING}: the best gains 0.05 nats (95 % interval −0.04 to 0.14, 3 seeds), which is not shown to "
    "exceed 0.02 nats.",
    "unchanged": "No config is shown to be better: the best of the search is the baseline itself.",
}
GAINS = knob("learning_rate", KnobWord.GAINS, gain(0.4))
GAINING = f"Learning rate 0.001 → 0.003 gains {RATE[3:]}, not yet shown to last"
FEW = {"word": BestWord.NONE, "decided": False, "candidates": ()}


@pytest.mark.parametrize("case", CASES)
def test_sentence(case: str) -> None:
    assert answer_of(findings_of(CASES[case]())).sentence == SENTENCES[case]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"knobs": KNOBS[:1]}, f"Learning rate 0.001 → 0.003 breaks the plateau alone, {RATE}."),
        (
            {"knobs": (KNOBS[0], KNOBS[2])},
            f"Learning rate 0.001 → 0.003 breaks the plateau alone, {RATE}; both changes together {ALL}.",
        ),
        ({**FEW, "effect": gain(0.3, n=1), "headline": ()}, f"{NOTHING}: the best has too few runs on fresh seeds."),
        ({**FEW, "effect": None, "headline": ()}, f"{NOTHING}: the best has too few runs on fresh seeds."),
        (
            {**FEW, "effect": None, "knobs": (GAINS, KNOBS[2])},
            f"{GAINING}; the search's best config is not shown to be better than the baseline: the best has too few "
            "runs on fresh seeds.",
        ),
        (
            {"knobs": (GAINS, KNOBS[2])},
            f"{GAINING}; both changes together break the plateau, by 0.51 (0.48 to 0.54).",
        ),
        (
            {"knobs": (GAINS, dataclasses.replace(GAINS, knob="n_embd"), KNOBS[2])},
            f"{GAINING}; width gains as well, not yet shown to last; all 3 changes together break the plateau, by 0.51 "
            "(0.48 to 0.54).",
        ),
        # the two knobs without dropout gain more than all three
        (
            {
                "searched": attributions.best(),
                "best": attributions.RATE,
                "change": ("learning_rate", "n_embd"),
                "effect": gain(0.55),
                "whole": gain(0.51),
                "whole_lasting": contrast(0.25),
            },
            f"Learning rate 0.001 → 0.003 breaks the plateau alone, {RATE}; so does width; learning rate and width "
            "together gain 0.55 (0.52 to 0.58), and no more with dropout.",
        ),
    ],
)
def test_sentence_of_variants(changes: dict[str, object], sentence: str) -> None:
    assert answer_of(findings_of(attribution(**changes))).sentence == sentence


def test_right_advice_is_named_where_no_knob_is() -> None:
    right = attributions.candidate(2, CandidateWord.RIGHT, gain(0.25))
    judged = dataclasses.replace(CASES["nothing"](), candidates=(right,))
    answer = answer_of(findings_of(judged))
    # 0.25 ± 2.7764 * 0.01
    assert answer.sentence == (
        "The advice learning_rate 0.002 gains 0.25 nats (95 % interval 0.22 to 0.28, 5 seeds); the search's best "
        "config is not shown to be better than the baseline: the best gains 0.002 nats (95 % interval −0.006 to 0.010, "
        "5 seeds), less than the 0.02 nats that count."
    )
    assert [advice.text for advice in answer.advice if advice.kind == "do"] == [
        "follow the advice learning_rate 0.002, which is shown to be right"
    ]


@pytest.mark.parametrize(
    ("baseline", "single_knob", "sentence"),
    [
        ([], [3.4], "No verdict yet: no run of the baseline is complete, so there is nothing to compare with."),
        (
            [3.5],
            [3.4],
            "Not enough evidence: the noise of the baseline is unknown (only one of its seeds is complete), so nothing "
            "can be told from luck.",
        ),
        (
            [3.5, 3.5],
            [3.4],
            "Not enough evidence: the noise of the baseline is unknown (all of its seeds end with the same loss), so "
            "nothing can be told from luck.",
        ),
        ([3.49, 3.5, 3.51], [], "No verdict on single knobs yet: no knob has a complete run of its own."),
        # a single further run: t(0.975, 2) * sqrt(4/3) * 0.01 = 0.0497
        (
            [3.49, 3.5, 3.51],
            [3.2],
            "Dropout 0 → 0.3 alone lowers the loss most, by 0.30 nats (95 % interval 0.25 to 0.35, one run), beyond "
            "the noise of 3 baseline seeds. Screened, not yet proven.",
        ),
        (
            [3.49, 3.5, 3.51],
            [3.9],
            "No knob changed alone lowers the loss in its single run; dropout raises it. Screened, not yet proven.",
        ),
        ([3.49, 3.5, 3.51], [3.49], "No knob changed alone moves the loss beyond the noise of 3 baseline seeds."),
    ],
)
def test_before_the_confirm_phase(baseline: Sequence[float], single_knob: Sequence[float], sentence: str) -> None:
    assert answer_of(Findings(synthetic.family(baseline, single_knob))).sentence == sentence
