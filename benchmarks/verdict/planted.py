"""Planted faults: sweeps of real trials whose baseline has a setting broken on purpose. Does the verdict name it?

    python -m benchmarks.verdict.planted [--parquet FILE] [--from-scratch] [--seed 0] [--case NAME ...] [--work DIR]
            [--direct 8] [--direct-races 4] [--json]

Each case (benchmarks/verdict/planted_cases.py) breaks one or two settings of the baseline of planted.yaml, or none, and
runs the command `sweep`: the broken baseline is trained first, branches go on from its checkpoint, and two shapes race
from scratch. Where nothing is broken nothing may be claimed. The text is the standard library, or that of `--parquet`.
`--from-scratch` squeezes the same baselines into short trials from scratch, for comparison. A second call continues
where the first was interrupted: sweeps and direct runs that have ended lie in DIR.

The scores (benchmarks/verdict/planted_scores.py) answer five questions. Is a broken knob named first? Are the other
knobs left alone? Is nothing claimed where nothing is broken? Do the intervals of the claims contain the mean of the
same change on fresh seeds: `--direct` for branches, which go on from the sweep's own origin, and `--direct-races` for
races? What did the case cost, in tokens times parameters, beside the earlier protocol (28 000 iterations of 1024 tokens
on 3 layers 64 wide)? An innocent knob is excused where direct runs bear the claim out. Beside them stand Optuna's
importances of the same search. About 45 minutes on two cores for all cases on one text.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from benchmarks.commands import ROOT, at_least, existing_file, parser_of, set_options
from benchmarks.verdict.planted_arms import MENDED, direct_tasks, loss_of
from benchmarks.verdict.planted_cases import CASES, SCRATCH, STUDY, Case, mending, settings
from benchmarks.verdict.planted_scores import Arm, Claim, Difference, Rate, Score, ranking, rates_of, score
from benchmarks.verdict.train_directly import trained
from sweeps.engine.session import prepare_data
from sweeps.paths import StudyPaths
from sweeps.store.records import Results, Run
from sweeps.store.store import Reader
from sweeps.study.knobs import PARAM
from sweeps.study.load import load
from trainer.data.dataset import Dataset
from trainer.model.size import parameters

FIRST_DIRECT_SEED = 9000
"""above the seeds of any sweep"""
EVALUATORS: Mapping[str, Callable[[], BaseImportanceEvaluator]] = {
    "fANOVA": lambda: FanovaImportanceEvaluator(seed=0),
    "PED-ANOVA": PedAnovaImportanceEvaluator,
}
"""of Optuna: the one that works on 20 to 40 trials, and the default"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the cases are run."""

    dataset: Dataset
    work: Path
    """folder of this text's sweeps and direct runs"""
    scratch: bool
    seed: int
    """added to the seed of every case"""
    direct: int
    """seeds of direct runs, 0: none"""
    direct_races: int
    """seeds of direct races"""


def sweep_case(case: Case, how: Settings) -> tuple[dict[str, Any], Results]:
    """Run or resume the case's sweep; return the output of `sweep run --json` and all runs."""
    name = "-".join([case.name, *([SCRATCH] if how.scratch else []), str(case.seed + how.seed)])
    command = [sys.executable, "-m", "sweeps", "run", str(STUDY)]
    command += ["--profile", SCRATCH] if how.scratch else []
    command += set_options(settings(case, seed=how.seed, scratch=how.scratch))
    command += ["--data", str(how.dataset.path), "--out", str(how.work / name), "--json"]
    log = how.work / f"{name}.log"
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)  # noqa: S603  # our own
    if process.returncode:
        raise SystemExit(f"sweep run ended with {process.returncode}; see {log}")
    output: dict[str, Any] = json.loads(process.stdout)
    with Reader(f"sqlite:///{output['store']}") as reader:
        return output, reader.results(case.name)


def compute_of(runs: Iterable[Run]) -> float:
    """Return what the runs trained, in tokens times parameters. Evaluations don't count."""
    return float(
        sum((run.points[-1].tokens - run.points[0].tokens) * parameters(run.config) for run in runs if run.points)
    )


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


def score_case(case: Case, how: Settings) -> Score:
    """Sweep one case, train what its claims are about directly, and score it."""
    output, results = sweep_case(case, how)
    planted = case.mends(scratch=how.scratch)
    losses: dict[Arm, list[float]] = {}
    if how.direct:
        tasks = direct_tasks(
            planted,
            results,
            output,
            mends=mending(case, scratch=how.scratch),
            seeds=range(FIRST_DIRECT_SEED, FIRST_DIRECT_SEED + how.direct),
            race_seeds=range(FIRST_DIRECT_SEED, FIRST_DIRECT_SEED + how.direct_races),
        )
        every = [task for of_arm in tasks.values() for task in of_arm]
        ended = dict(zip(every, trained(every, how.dataset, how.work / "direct"), strict=True))
        losses = {arm: [loss_of(arm, ended[task]) for task in of_arm] for arm, of_arm in tasks.items()}
    study = results.study
    raced = {} if study.race is None else dict(study.race.changes())
    return score(
        case.name,
        planted,
        output,
        knobs=[*study.knobs, *raced],
        losses=losses,
        mended=losses.get(MENDED, ()),
        shares=importances(output["store"], case.name),
        compute=compute_of(results.runs),
    )


def markdown_lines(scores: Sequence[Score]) -> list[str]:
    """Return the scores as a Markdown table and a list of rates."""
    head = (
        "case",
        "broken knobs",
        "verdict",
        "named",
        "races",
        "claims",
        "wrongly accused",
        "gain of mending, direct",
        *EVALUATORS,
        "compute",
        "runs",
    )
    rows = [head, tuple("---" for _ in head)]
    for case_score in scores:
        gain = "" if case_score.delta is None else f" {case_score.delta:.4f}"
        rows.append(
            (
                case_score.case,
                ", ".join(case_score.planted) or "nothing",
                case_score.word + gain,
                _names(case_score.named),
                _names(case_score.raced),
                ", ".join(map(_claim_text, case_score.claims)) or "none",
                _names(case_score.accused),
                "" if case_score.mended is None else _difference_text(case_score.mended),
                *(_most_important(case_score.shares[name]) for name in EVALUATORS),
                f"{case_score.compute:.2f}",
                f"{case_score.runs} in {case_score.seconds:.0f} s",
            )
        )
    table = ["| " + " | ".join(row) + " |" for row in rows]
    costs = [case_score.compute for case_score in scores]
    cost = f"compute of a case, of the earlier protocol's: {statistics.median(costs):.2f} (at most {max(costs):.2f})"
    return [*table, "", *(f"- {_rate_text(rate)}" for rate in rates_of(scores)), f"- {cost}"]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _claim_text(claim: Claim) -> str:
    interval = "no interval" if claim.low is None else f"{claim.low:.4f} to {claim.high:.4f}"
    direct = "" if claim.direct is None else f"; direct {claim.direct.mean:.4f}"
    return f"{' + '.join(claim.knobs)} {claim.verdict} {claim.effect:.4f} ({interval}{direct})"


def _difference_text(difference: Difference) -> str:
    return f"{difference.mean:.4f} ({difference.low:.4f} to {difference.high:.4f})"


def _most_important(shares: Mapping[str, float]) -> str:
    knob = ranking(shares)[0]
    return f"{knob} {shares[knob]:.2f}"


def _rate_text(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.what}: {rate.k} of {rate.n} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Run the cases and print their scores."""
    parser = parser_of(__doc__)
    parser.add_argument("--parquet", type=existing_file, help="train on this text instead of the standard library")
    parser.add_argument("--from-scratch", action="store_true", help="squeezed trials in place of branches and races")
    parser.add_argument("--seed", type=at_least(0), default=0, help="is added to the seed of every case (default 0)")
    parser.add_argument(
        "--case",
        action="append",
        choices=[case.name for case in CASES],
        help="run this case only; may be given several times (default: all)",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/planted"), help="folder of the sweeps (default runs/planted)"
    )
    for option, default, what in (("--direct", 8, "branches"), ("--direct-races", 4, "races")):
        text = f"seeds of direct {what}, at least 2 (default {default}); --direct 0: no direct runs at all"
        parser.add_argument(option, type=at_least(0), default=default, help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.direct and min(options.direct, options.direct_races) < 2:
        parser.error("argument --direct: 1 seed gives no interval; take at least 2 of each, or --direct 0")
    parquet = options.parquet
    work = options.work.absolute() / ("embedded" if parquet is None else parquet.stem)
    work.mkdir(parents=True, exist_ok=True)
    study = load(STUDY, data=None if parquet is None else str(parquet), devices_have_cuda=False)
    how = Settings(
        dataset=prepare_data(study, StudyPaths(work), progress=lambda _: None),
        work=work,
        scratch=options.from_scratch,
        seed=options.seed,
        direct=options.direct,
        direct_races=options.direct_races,
    )
    cases = [case for case in CASES if not options.case or case.name in options.case]
    scores = []
    for number, case in enumerate(cases, 1):
        print(f"{case.name} ({number} of {len(cases)})", file=sys.stderr, flush=True)
        scores.append(score_case(case, how))
    print(json.dumps(as_json(scores)) if options.json else "\n".join(markdown_lines(scores)))


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the scores and the rates over all cases, with intervals."""
    cases = [
        {
            **dataclasses.asdict(case_score),
            "first": case_score.first,
            "accused": list(case_score.accused),
            "claims_anything": case_score.claims_anything,
            "claims": [
                {**dataclasses.asdict(claim), "held": claim.held, "agrees": claim.agrees} for claim in case_score.claims
            ],
        }
        for case_score in scores
    ]
    rates = [{**dataclasses.asdict(rate), "interval": rate.interval} for rate in rates_of(scores)]
    return {"cases": cases, "summary": rates}


if __name__ == "__main__":
    main()
