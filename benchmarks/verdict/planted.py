"""Sweeps of real trials whose baseline has a setting broken on purpose: does the verdict name it?

    python -m benchmarks.verdict.planted [--case NAME ...] [--work DIR] [--direct 8] [--json]

Every case is benchmarks/planted.yaml, whose baseline is as good as its space allows, with one or two settings broken
(or none: then nothing may be claimed), run by the command `sweep`. Run again it goes on where it stopped: sweeps and
direct runs that have ended lie in DIR.

What is scored (benchmarks/verdict/planted_scores.py): is the baseline's loss shown to be beaten, is a knob that was
broken
named first, are the others left alone, and do the intervals of what is claimed hold what `--direct` further seeds show
of the same change? An innocent knob is excused where those seeds bear out what is said of it. Beside it, what Optuna
makes of the same search: which knob it ranks first by importance.
"""

from __future__ import annotations

import argparse
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

from benchmarks.verdict.planted_scores import (
    NOTHING,
    Arm,
    Claim,
    Difference,
    Rate,
    Score,
    arms,
    changes,
    claims,
    ranking,
    score,
    summary,
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

ROOT = Path(__file__).parents[2]
STUDY = Path(__file__).with_suffix(".yaml")
FRESH = 9000
"""first seed of the direct runs: no sweep gets there"""
EVALUATORS: Mapping[str, Callable[[], BaseImportanceEvaluator]] = {
    "fANOVA": lambda: FanovaImportanceEvaluator(seed=0),
    "PED-ANOVA": PedAnovaImportanceEvaluator,
}
"""Optuna's: the one that works at 20 to 40 trials, and its default"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The study's baseline with some settings broken."""

    name: str
    planted: tuple[str, ...] = ()
    """knobs that mend it"""
    faults: Mapping[str, Value] = field(default_factory=dict)
    """the baseline's broken settings"""
    mended: Mapping[str, Value] = field(default_factory=dict)
    """them with the fault put right, where that isn't the study's own baseline"""
    also: tuple[str, ...] = ()
    """other changes to the study, KEY=VALUE"""
    seed: int = 1337


_LOW = {"learning_rate": 7e-4, "min_lr": 1.05e-4}
CASES = (
    Case(name="lr-low", planted=("learning_rate",), faults=_LOW),
    Case(name="lr-high", planted=("learning_rate",), faults={"learning_rate": 4e-2, "min_lr": 6e-3}),
    Case(
        name="decays-early",  # the rate is 0 in the second half
        planted=("min_lr",),
        faults={"lr_decay_iters": 150, "warmup_iters": 120, "min_lr": 0.0},
        mended={"lr_decay_iters": 150, "warmup_iters": 120, "min_lr": 2.1e-3},
        also=("knobs.warmup_iters.high=0.48",),  # it ends before the decay does
    ),
    Case(name="warmup-long", planted=("warmup_iters",), faults={"warmup_iters": 297}),
    Case(name="dropout", planted=("dropout",), faults={"dropout": 0.5}),
    Case(name="weight-decay", planted=("weight_decay",), faults={"weight_decay": 10.0}),
    Case(name="narrow", planted=("n_embd",), faults={"n_embd": 16}),
    Case(name="lr-low-and-dropout", planted=("learning_rate", "dropout"), faults={**_LOW, "dropout": 0.5}),
    Case(
        name="narrow-and-weight-decay",
        planted=("n_embd", "weight_decay"),
        faults={"n_embd": 16, "weight_decay": 10.0},
    ),
    Case(
        name="no-warmup",  # a higher rate needs a warm-up, a warm-up is of no use to this rate: neither helps alone
        planted=("learning_rate", "warmup_iters"),
        faults={"learning_rate": 1.5e-3, "min_lr": 2.25e-4, "warmup_iters": 0},
        also=("trials=48",),  # two knobs at once are harder to find
    ),
    Case(name="null-1"),
    Case(name="null-2", seed=2337),
    Case(name="null-3", seed=3337),
)
"""Each of planted.yaml's settings is in nanoGPT's units, a trial being as long as the baseline's own run."""


def settings(case: Case, *, mended: bool = False) -> tuple[str, ...]:
    """What makes the study the case's, as `--set` takes it; `mended`: with the fault put right."""
    changes = case.mended if mended else case.faults
    baseline = (f"baseline.{name}={value}" for name, value in changes.items())
    return f"name={case.name}", f"seed={case.seed}", *case.also, *baseline


def study_of(case: Case, *, mended: bool = False) -> Study:
    """The case's study, resolved."""
    return load(STUDY, overrides=settings(case, mended=mended), devices_have_cuda=False)


def swept(case: Case, dataset: Dataset, work: Path) -> tuple[dict[str, Any], Results]:
    """Run the case's sweep, or go on with it: what the command ends with, and all its runs."""
    options = [word for setting in settings(case) for word in ("--set", setting)]
    command = [sys.executable, "-m", "sweeps", "run", str(STUDY), *options]
    command += ["--data", str(dataset.path), "--out", str(work / case.name), "--json"]
    log = work / f"{case.name}.log"
    with log.open("w", encoding="utf-8") as stderr:
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)  # noqa: S603  # our own
    if ended.returncode:
        raise SystemExit(f"sweep run ended with {ended.returncode}; see {log}")
    shown: dict[str, Any] = json.loads(ended.stdout)
    with Reader(f"sqlite:///{shown['store']}") as reader:
        return shown, reader.results(case.name)


def importances(store: str, name: str) -> dict[str, dict[str, float]]:
    """Optuna's shares by evaluator and knob, from the study's complete trials: fANOVA, and its own default."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{store}")
    knobs = {param: knob for knob, param in PARAM.items()}
    return {
        label: {
            knobs.get(param, param): share
            for param, share in optuna.importance.get_param_importances(study, evaluator=made()).items()
        }
        for label, made in EVALUATORS.items()
    }


def scored(case: Case, dataset: Dataset, work: Path, *, direct: int) -> Score:
    """Run one case, and what measures it directly on that many seeds; 0: not at all."""
    shown, results = swept(case, dataset, work)
    configs = directly(case, results, shown["verdict"] or NOTHING, seeds=range(FRESH, FRESH + direct))
    trained = [config for each in configs.values() for config in each]
    loss = dict(zip(trained, final_losses(trained, dataset, work / "direct"), strict=True))
    losses = {arm: [loss[config] for config in each] for arm, each in configs.items() if each}
    return score(
        case.name,
        case.planted,
        shown,
        knobs=len(results.study.knobs),
        losses={arm: each for arm, each in losses.items() if arm is not None},
        mended=losses.get(None, ()),
        shares=importances(shown["store"], case.name),
    )


def directly(
    case: Case, results: Results, verdict: Mapping[str, Any], *, seeds: Sequence[int]
) -> dict[Arm | None, list[TrainConfig]]:
    """What is to be trained to see whether the verdict is true: the arms of its claims, and the best of a null case.
    None is the baseline with its fault put right."""
    changed = changes(verdict)
    wanted = [Arm(), *(arm for claim in claims(verdict) for arm in arms(claim, changed))]
    if not case.planted:
        wanted.append(changed)
    configs: dict[Arm | None, list[TrainConfig]] = {
        arm: [config_of_arm(results, arm, seed) for seed in seeds] for arm in wanted
    }
    if case.planted:
        size, mended = results.data.vocab_size, study_of(case, mended=True)
        configs[None] = [baseline_config(mended, seed=seed, vocab_size=size) for seed in seeds]
    return configs


def config_of_arm(results: Results, arm: Arm, seed: int) -> TrainConfig:
    """The case's baseline with some knobs as the best trial has them."""
    study, best = results.study, results.best
    params = baseline_params(study)
    for param in (PARAM.get(knob, knob) for knob in arm):
        assert best is not None
        params[param] = best.params[param]
    return config_of(study, params, seed=seed, vocab_size=results.data.vocab_size)


def lines(scores: Sequence[Score]) -> list[str]:
    """The scores as Markdown."""
    head = (
        "case",
        "broken",
        "verdict",
        "gain of the best",
        "named",
        "accused",
        "mending it directly",
        *EVALUATORS,
        "runs",
    )
    rows = [head, tuple("---" for _ in head)]
    for each in scores:
        rows.append(
            (
                each.case,
                ", ".join(each.planted) or "nothing",
                each.word,
                "" if each.delta is None else f"{each.delta:.3f}",
                ", ".join(map(_claim, each.claims)) or "none",
                ", ".join(each.accused) or "none",
                "" if each.mended is None else _difference(each.mended),
                *(f"{(knob := ranking(each.shares[name])[0])} {each.shares[name][knob]:.2f}" for name in EVALUATORS),
                f"{each.runs} in {each.seconds:.0f} s",
            )
        )
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return [*table, "", *(f"- {_rate(each)}" for each in summary(scores))]


def _claim(claim: Claim) -> str:
    interval = "no interval" if claim.low is None else f"{claim.low:.3f} to {claim.high:.3f}"
    direct = "" if claim.direct is None else f"; direct {claim.direct.mean:.3f}"
    return f"{' + '.join(claim.knobs)} {claim.verdict} {claim.effect:.3f} ({interval}{direct})"


def _difference(found: Difference) -> str:
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _rate(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.what}: {rate.k} of {rate.n} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="these alone")
    parser.add_argument("--work", type=Path, default=Path("runs/planted"), help="folder of the sweeps")
    parser.add_argument("--direct", type=int, default=8, help="seeds of the direct runs, 2 or more; 0: none")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.direct < 0 or arguments.direct == 1:
        parser.error(f"--direct {arguments.direct}: an interval takes 2 seeds or more; 0 leaves the direct runs out")
    work = arguments.work.absolute()
    dataset = prepare_data(load(STUDY, devices_have_cuda=False), StudyPaths(work), progress=lambda _: None)
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    scores = []
    for number, case in enumerate(cases, 1):
        print(f"{case.name} ({number} of {len(cases)})", file=sys.stderr, flush=True)
        scores.append(scored(case, dataset, work, direct=arguments.direct))
    print(json.dumps(as_json(scores)) if arguments.json else "\n".join(lines(scores)))


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """The scores, and their summary with intervals."""
    cases = [
        {
            **dataclasses.asdict(each),
            "first": each.first,
            "accused": list(each.accused),
            "claims_anything": each.claims_anything,
            "claims": [{**dataclasses.asdict(claim), "held": claim.held} for claim in each.claims],
        }
        for each in scores
    ]
    rates = [{**dataclasses.asdict(each), "interval": each.interval} for each in summary(scores)]
    return {"cases": cases, "summary": rates}


if __name__ == "__main__":
    main()
