"""Planted faults: sweeps of real trials whose baseline has a setting broken on purpose. Does the verdict name it?

    python -m benchmarks.verdict.planted [--case NAME ...] [--work DIR] [--direct 8] [--json]

The study benchmarks/verdict/planted.yaml has a baseline as good as its space allows. Each case breaks one or two of its
settings, or none, and runs the command `sweep`. On a case without a fault nothing may be claimed. A second call
continues where the first was interrupted: sweeps and direct runs that have ended lie in DIR.

The scores (benchmarks/verdict/planted_scores.py) answer four questions. Is the baseline shown to be beaten? Is a broken
knob named first? Are the other knobs left alone? Do the intervals of the claims contain the mean of the same change on
`--direct` further seeds? An innocent knob is excused where those seeds bear the claim out. Beside them stand Optuna's
importances of the same search, and the knob that they rank first. 45 minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from benchmarks.commands import ROOT, at_least, parser_of, set_options
from benchmarks.verdict.planted_scores import (
    NO_VERDICT,
    Arm,
    Claim,
    Difference,
    Rate,
    Score,
    arms_of,
    changed_knobs,
    claims_of,
    ranking,
    rates_of,
    score,
)
from benchmarks.verdict.train_directly import final_losses
from sweeps.engine.session import prepare_data
from sweeps.paths import StudyPaths
from sweeps.store.records import Results
from sweeps.store.store import Reader
from sweeps.study.baseline import Value
from sweeps.study.knobs import PARAM
from sweeps.study.load import load
from sweeps.study.proposals import baseline_config, baseline_params, config_of
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset

PLANTED_STUDY = Path(__file__).with_suffix(".yaml")
FIRST_DIRECT_SEED = 9000
"""above the seeds of any sweep"""
EVALUATORS: Mapping[str, Callable[[], BaseImportanceEvaluator]] = {
    "fANOVA": lambda: FanovaImportanceEvaluator(seed=0),
    "PED-ANOVA": PedAnovaImportanceEvaluator,
}
"""of Optuna: the one that works on 20 to 40 trials, and the default"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The study's baseline with some settings broken."""

    name: str
    planted: tuple[str, ...] = ()
    """knobs that mend the fault"""
    faults: Mapping[str, Value] = field(default_factory=dict)
    """broken settings of the baseline"""
    mended: Mapping[str, Value] = field(default_factory=dict)
    """the same settings with the fault mended, where that differs from the study's own baseline"""
    also: tuple[str, ...] = ()
    """other changes to the study, KEY=VALUE"""
    seed: int = 1337


_LOW_RATE = {"learning_rate": 7e-4, "min_lr": 1.05e-4}
CASES = (
    Case(name="lr-low", planted=("learning_rate",), faults=_LOW_RATE),
    Case(name="lr-high", planted=("learning_rate",), faults={"learning_rate": 4e-2, "min_lr": 6e-3}),
    Case(
        name="decays-early",  # the rate is 0 in the second half
        planted=("min_lr",),
        faults={"lr_decay_iters": 150, "warmup_iters": 120, "min_lr": 0.0},
        mended={"lr_decay_iters": 150, "warmup_iters": 120, "min_lr": 2.1e-3},
        also=("knobs.warmup_iters.high=0.48",),  # the warm-up has to end before the decay does
    ),
    Case(name="warmup-long", planted=("warmup_iters",), faults={"warmup_iters": 297}),
    Case(name="dropout", planted=("dropout",), faults={"dropout": 0.5}),
    Case(name="weight-decay", planted=("weight_decay",), faults={"weight_decay": 10.0}),
    Case(name="narrow", planted=("n_embd",), faults={"n_embd": 16}),
    Case(name="lr-low-and-dropout", planted=("learning_rate", "dropout"), faults={**_LOW_RATE, "dropout": 0.5}),
    Case(
        name="narrow-and-weight-decay",
        planted=("n_embd", "weight_decay"),
        faults={"n_embd": 16, "weight_decay": 10.0},
    ),
    Case(
        name="no-warmup",  # neither knob helps alone: a higher rate needs a warm-up, and this rate gains nothing by one
        planted=("learning_rate", "warmup_iters"),
        faults={"learning_rate": 1.5e-3, "min_lr": 2.25e-4, "warmup_iters": 0},
        also=("trials=48",),  # two knobs at once are harder to find
    ),
    Case(name="null-1"),
    Case(name="null-2", seed=2337),
    Case(name="null-3", seed=3337),
)
"""Settings are in nanoGPT's units, because a trial is as long as the baseline's own run."""


def settings(case: Case, *, mended: bool = False) -> tuple[str, ...]:
    """Return the `--set` settings that turn the study into the case's; `mended`: with the fault mended."""
    baseline = (f"baseline.{name}={value}" for name, value in (case.mended if mended else case.faults).items())
    return f"name={case.name}", f"seed={case.seed}", *case.also, *baseline


def study_of(case: Case, *, mended: bool = False) -> Study:
    """Return the case's study, resolved."""
    return load(PLANTED_STUDY, overrides=settings(case, mended=mended), devices_have_cuda=False)


def sweep_case(case: Case, dataset: Dataset, work: Path) -> tuple[dict[str, Any], Results]:
    """Run or resume the case's sweep; return the output of `sweep run --json` and all runs."""
    command = [sys.executable, "-m", "sweeps", "run", str(PLANTED_STUDY), *set_options(settings(case))]
    command += ["--data", str(dataset.path), "--out", str(work / case.name), "--json"]
    log = work / f"{case.name}.log"
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)  # noqa: S603  # our own
    if process.returncode:
        raise SystemExit(f"sweep run ended with {process.returncode}; see {log}")
    output: dict[str, Any] = json.loads(process.stdout)
    with Reader(f"sqlite:///{output['store']}") as reader:
        return output, reader.results(case.name)


def importances(store: str, name: str) -> dict[str, dict[str, float]]:
    """Return Optuna's importances by evaluator and knob, from the study's complete trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{store}")
    knob_of = {param: knob for knob, param in PARAM.items()}
    return {
        label: {
            knob_of.get(param, param): share
            for param, share in optuna.importance.get_param_importances(study, evaluator=evaluator()).items()
        }
        for label, evaluator in EVALUATORS.items()
    }


def score_case(case: Case, dataset: Dataset, work: Path, *, direct: int) -> Score:
    """Sweep one case, train its arms directly on `direct` seeds (0: not at all), and score it."""
    output, results = sweep_case(case, dataset, work)
    seeds = range(FIRST_DIRECT_SEED, FIRST_DIRECT_SEED + direct)
    configs_by_arm = direct_configs(case, results, output["verdict"] or NO_VERDICT, seeds=seeds)
    configs = [config for arm_configs in configs_by_arm.values() for config in arm_configs]
    loss_of = dict(zip(configs, final_losses(configs, dataset, work / "direct"), strict=True))
    losses = {
        arm: [loss_of[config] for config in arm_configs] for arm, arm_configs in configs_by_arm.items() if arm_configs
    }
    return score(
        case.name,
        case.planted,
        output,
        knobs=len(results.study.knobs),
        losses={arm: arm_losses for arm, arm_losses in losses.items() if arm is not None},
        mended=losses.get(None, ()),
        shares=importances(output["store"], case.name),
    )


def direct_configs(
    case: Case, results: Results, verdict: Mapping[str, Any], *, seeds: Sequence[int]
) -> dict[Arm | None, list[TrainConfig]]:
    """Return the configs that show whether the verdict is true: its claims' arms, and the best of a null case.

    The arm None is the baseline with its fault mended.
    """
    changed = changed_knobs(verdict)
    arms = [Arm(), *(arm for claim in claims_of(verdict) for arm in arms_of(claim, changed))]
    if not case.planted:
        arms.append(changed)
    configs: dict[Arm | None, list[TrainConfig]] = {
        arm: [config_of_arm(results, arm, seed) for seed in seeds] for arm in arms
    }
    if case.planted:
        vocab_size, mended = results.data.vocab_size, study_of(case, mended=True)
        configs[None] = [baseline_config(mended, seed=seed, vocab_size=vocab_size) for seed in seeds]
    return configs


def config_of_arm(results: Results, arm: Arm, seed: int) -> TrainConfig:
    """Return the case's baseline with the arm's knobs at the best trial's values."""
    study, best = results.study, results.best
    params = baseline_params(study)
    for param in (PARAM.get(knob, knob) for knob in arm):
        assert best is not None
        params[param] = best.params[param]
    return config_of(study, params, seed=seed, vocab_size=results.data.vocab_size)


def markdown_lines(scores: Sequence[Score]) -> list[str]:
    """Return the scores as a Markdown table and a list of rates."""
    head = (
        "case",
        "broken knobs",
        "verdict",
        "gain of the best",
        "claims",
        "wrongly accused",
        "gain of mending, direct",
        *EVALUATORS,
        "runs",
    )
    rows = [head, tuple("---" for _ in head)]
    for case_score in scores:
        rows.append(
            (
                case_score.case,
                ", ".join(case_score.planted) or "nothing",
                case_score.word,
                "" if case_score.delta is None else f"{case_score.delta:.3f}",
                ", ".join(map(_claim_text, case_score.claims)) or "none",
                ", ".join(case_score.accused) or "none",
                "" if case_score.mended is None else _difference_text(case_score.mended),
                *(_most_important(case_score.shares[name]) for name in EVALUATORS),
                f"{case_score.runs} in {case_score.seconds:.0f} s",
            )
        )
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return [*table, "", *(f"- {_rate_text(rate)}" for rate in rates_of(scores))]


def _claim_text(claim: Claim) -> str:
    interval = "no interval" if claim.low is None else f"{claim.low:.3f} to {claim.high:.3f}"
    direct = "" if claim.direct is None else f"; direct {claim.direct.mean:.3f}"
    return f"{' + '.join(claim.knobs)} {claim.verdict} {claim.effect:.3f} ({interval}{direct})"


def _difference_text(difference: Difference) -> str:
    return f"{difference.mean:.3f} ({difference.low:.3f} to {difference.high:.3f})"


def _most_important(shares: Mapping[str, float]) -> str:
    knob = ranking(shares)[0]
    return f"{knob} {shares[knob]:.2f}"


def _rate_text(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.what}: {rate.k} of {rate.n} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Run the cases and print their scores."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--case",
        action="append",
        choices=[case.name for case in CASES],
        help="run this case only; may be given several times (default: all)",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/planted"), help="folder of the sweeps (default runs/planted)"
    )
    parser.add_argument(
        "--direct", type=at_least(0), default=8, help="seeds of the direct runs, at least 2, or 0 for none (default 8)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.direct == 1:
        parser.error("argument --direct: 1 seed gives no interval; take at least 2, or 0 to skip the direct runs")
    work = options.work.absolute()
    dataset = prepare_data(load(PLANTED_STUDY, devices_have_cuda=False), StudyPaths(work), progress=lambda _: None)
    cases = [case for case in CASES if not options.case or case.name in options.case]
    scores = []
    for number, case in enumerate(cases, 1):
        print(f"{case.name} ({number} of {len(cases)})", file=sys.stderr, flush=True)
        scores.append(score_case(case, dataset, work, direct=options.direct))
    print(json.dumps(as_json(scores)) if options.json else "\n".join(markdown_lines(scores)))


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the scores and the rates over all cases, with intervals."""
    cases = [
        {
            **dataclasses.asdict(case_score),
            "first": case_score.first,
            "accused": list(case_score.accused),
            "claims_anything": case_score.claims_anything,
            "claims": [{**dataclasses.asdict(claim), "held": claim.held} for claim in case_score.claims],
        }
        for case_score in scores
    ]
    rates = [{**dataclasses.asdict(rate), "interval": rate.interval} for rate in rates_of(scores)]
    return {"cases": cases, "summary": rates}


if __name__ == "__main__":
    main()
