"""Short protocols against whole retrainings: what a branch and a race say of a change, and what the whole run does.

    python -m benchmarks.verdict.branch_vs_retrain [--parquet FILE] [--work DIR] [--iters 3072] [--json]

The baseline of branch_vs_retrain.yaml is trained for `--iters` iterations, and so is every change of
retrained_changes.py, from scratch on 2 seeds. Branches go on from the baseline at two thirds. Three tables:

1. Branches against retrainings, by kind of knob: signs, ranks, and how much of the effect a branch shows.
2. Races against retrainings: the gap at a quarter and at a third of the run, and how well it predicts the end. A race
   is the beginning of a whole run, so it costs nothing here.
3. Noise: the standard deviation of paired differences by protocol and length, pooled over two or three changes on 6
   seeds, and the seeds and compute with which each protocol shows a difference of 0.01 nats. A branch's compute leaves
   out its origin, which all branches share.

Every config is trained once, and kept in DIR. The text is the standard library, or that of `--parquet`. About 25
minutes per text on two cores.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import at_least, existing_file, parser_of
from benchmarks.verdict.protocol_scores import (
    Agreement,
    Compared,
    Effect,
    Noise,
    Prediction,
    by_kind,
    effect_of,
    noise_of,
    prediction,
)
from benchmarks.verdict.retrained_changes import (
    BASELINE,
    CHANGES,
    NOISY,
    NOISY_RACES,
    NOISY_SHAPES,
    ORIGIN_AT,
    SHAPES,
    Change,
    branch,
    origin_of,
    squeezed,
    study_of,
)
from benchmarks.verdict.train_directly import Task, Trained, checkpoint_of, trained
from sweeps.engine.session import prepare_data
from sweeps.paths import StudyPaths
from sweeps.study.start import Origin
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.digest import sha256_of
from trainer.model.size import parameters

ORIGIN_SEED, FIRST_SEED = 1337, 9000
WHOLE_SEEDS, BRANCH_SEEDS, NOISE_SEEDS = 2, 3, 6
BRANCHES = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
"""lengths of branches, of the whole run; the last is compared with retrainings"""
SQUEEZED = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
RACES = (1 / 4, 1 / 3)
NATS = 0.01
"""the difference to show in the table of noise"""

Losses = dict[tuple[str, str, int], dict[int, Trained]]
"""runs by protocol (whole, branch, squeezed, race), change and length, and then by seed"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """The baseline, its origin, and where runs are kept."""

    study: Study
    iters: int
    origin: Origin
    vocab_size: int

    def config(self, protocol: str, change: Change, iters: int, seed: int) -> TrainConfig:
        """Return the config of a run. A race has that of the whole run, and is halted."""
        if protocol == "branch":
            return branch(self.study, change, origin=self.origin, iters=iters, seed=seed, vocab_size=self.vocab_size)
        length = iters if protocol == "squeezed" else self.iters
        return squeezed(self.study, change, iters=length, seed=seed, vocab_size=self.vocab_size)

    def task(self, protocol: str, change: Change, iters: int, seed: int) -> Task:
        """Return a run to train. The races on a whole run's seeds are whole runs, so that nothing is trained twice."""
        origin = Path(self.origin.checkpoint) if protocol == "branch" else None
        halted = protocol == "race" and seed >= FIRST_SEED + WHOLE_SEEDS
        config = self.config(protocol, change, iters, seed)
        return Task(config=config, origin=origin, until=_first_at_least(config, iters) if halted else None)

    def lengths(self, shares: Sequence[float]) -> list[int]:
        """Return shares of the whole run in iterations."""
        return [round(share * self.iters) for share in shares]


def _first_at_least(config: TrainConfig, step: int) -> int:
    """Return the first evaluation at or after a step."""
    return -(-step // config.eval_interval) * config.eval_interval


def bench_of(iters: int, dataset: Dataset, work: Path, *, parquet: str | None) -> Bench:
    """Train the origin, unless that is done."""
    study, vocab_size = study_of(iters, parquet=parquet), dataset.vocab_size
    config = squeezed(study, BASELINE, iters=iters, seed=ORIGIN_SEED, vocab_size=vocab_size)
    step = _first_at_least(config, round(ORIGIN_AT * iters))
    checkpoint = checkpoint_of(Task(config=config, until=step), dataset, work)
    origin = origin_of(config, checkpoint, sha256_of(checkpoint), step=step)
    return Bench(study=study, iters=iters, origin=origin, vocab_size=vocab_size)


def designed(bench: Bench) -> Iterator[tuple[str, Change, int, int]]:
    """Yield every run as (protocol, change, iterations, number of seeds)."""
    for change in (BASELINE, *CHANGES, *SHAPES):
        yield "whole", change, bench.iters, WHOLE_SEEDS
    *shorter, compared = bench.lengths(BRANCHES)
    for change in (BASELINE, *CHANGES):
        yield "branch", change, compared, NOISE_SEEDS if change in (BASELINE, *NOISY) else BRANCH_SEEDS
    for change in (BASELINE, *NOISY):
        yield from (("branch", change, length, NOISE_SEEDS) for length in shorter)
        yield from (("squeezed", change, length, NOISE_SEEDS) for length in bench.lengths(SQUEEZED))
    longest = bench.lengths(RACES)[-1]
    for change in (BASELINE, *NOISY_RACES, *NOISY_SHAPES):
        yield "race", change, longest, NOISE_SEEDS


def train(bench: Bench, dataset: Dataset, work: Path) -> Losses:
    """Train every run that has not been trained yet."""
    tasks = {
        (protocol, change.name, iters, seed): bench.task(protocol, change, iters, seed)
        for protocol, change, iters, seeds in designed(bench)
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    }
    ended = trained(list(tasks.values()), dataset, work)
    losses: Losses = {}
    for (protocol, name, iters, seed), run in zip(tasks, ended, strict=True):
        losses.setdefault((protocol, name, iters), {})[seed] = run
    return losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """All three tables."""

    branches: tuple[Compared, ...]
    agreements: tuple[Agreement, ...]
    races: Mapping[float, tuple[Compared, ...]]
    """by the race's share of the whole run"""
    predictions: tuple[Prediction, ...]
    noise: tuple[Noise, ...]


def results_of(bench: Bench, losses: Losses) -> Results:
    """Return the three tables."""
    *_, compared = bench.lengths(BRANCHES)

    def effect(protocol: str, change: Change, iters: int, loss: Callable[[Trained], float] = _final) -> Effect:
        sides = (losses[protocol, name, iters] for name in (BASELINE.name, change.name))
        return effect_of(*({seed: loss(run) for seed, run in side.items()} for side in sides))

    branches = tuple(
        Compared(
            name=change.name,
            kind=change.kind,
            short=effect("branch", change, compared),
            whole=effect("whole", change, bench.iters),
        )
        for change in CHANGES
    )
    races = {
        share: tuple(
            Compared(
                name=change.name,
                kind=change.kind,
                short=effect("whole", change, bench.iters, _loss_at(iters)),
                whole=effect("whole", change, bench.iters),
            )
            for change in SHAPES
        )
        for share, iters in zip(RACES, bench.lengths(RACES), strict=True)
    }
    longest = bench.lengths(RACES)[-1]

    def noise(name: str, changes: Sequence[Change], iters: int) -> Noise:
        protocol = "race" if changes in (NOISY_RACES, NOISY_SHAPES) else name
        kept, loss = (longest, _loss_at(iters)) if protocol == "race" else (iters, _final)
        configs = [bench.config(protocol, change, iters, FIRST_SEED) for change in (BASELINE, *changes)]
        own, *costs = (compute_of(config, protocol, iters) for config in configs)
        return noise_of(
            name,
            iters,
            [effect(protocol, change, kept, loss) for change in changes],
            compute_per_seed=own + sum(costs) / len(costs),
            nats=NATS,
        )

    noisy = (
        ("branch", NOISY, BRANCHES),
        ("squeezed", NOISY, SQUEEZED),
        ("race", NOISY_RACES, RACES),
        ("race of a shape", NOISY_SHAPES, RACES),
    )
    return Results(
        branches=branches,
        agreements=tuple(by_kind(branches)),
        races=races,
        predictions=tuple(prediction(share, of_share) for share, of_share in races.items()),
        noise=tuple(noise(name, changes, iters) for name, changes, shares in noisy for iters in bench.lengths(shares)),
    )


def _final(run: Trained) -> float:
    return run.loss


def _loss_at(step: int) -> Callable[[Trained], float]:
    """Return what reads a curve at the first evaluation at or after `step`."""
    return lambda run: run.curve[min(at for at in run.curve if at >= step)]


def compute_of(config: TrainConfig, protocol: str, iters: int) -> float:
    """Return the tokens times parameters of a run, which as a race ends after `iters` iterations."""
    done = iters if protocol == "race" else config.max_iters
    return float(done * config.tokens_per_iter * parameters(config))


def markdown_lines(results: Results, *, whole: float) -> list[str]:
    """Return the tables. `whole` is the compute of one whole run of the baseline."""
    lines = _table(
        ("change", "kind", "in a branch (sd)", "retrained (sd)", "sign"),
        [
            (change.name, change.kind, _effect_text(change.short), _effect_text(change.whole), _sign_text(change))
            for change in results.branches
        ],
    )
    lines += _table(
        ("kind", "changes", "signs right", "rank correlation", "share of the effect that the branch shows"),
        [
            (each.kind, str(each.n), f"{each.right} of {each.told}", _number(each.rank), _number(each.ratio))
            for each in results.agreements
        ],
    )
    ends = next(iter(results.races.values()))
    lines += _table(
        ("shape", *(f"gap at {share:.2f} (sd)" for share in results.races), "retrained (sd)"),
        [
            (
                change.name,
                *(_effect_text(of_share[number].short) for of_share in results.races.values()),
                _effect_text(change.whole),
            )
            for number, change in enumerate(ends)
        ],
    )
    lines += _table(
        ("race's share of the run", "shapes", "end = slope x gap", "error", "rank correlation"),
        [
            (f"{each.share:.2f}", str(each.n), f"{each.slope:.2f}", f"{each.error:.3f}", f"{each.rank:.2f}")
            for each in results.predictions
        ],
    )
    return lines + _table(
        ("protocol", "iterations", "sd of a difference", f"seeds to show {NATS:g} nats", "compute, whole runs"),
        [
            (each.protocol, str(each.iters), f"{each.sd:.4f}", str(each.seeds), f"{each.compute / whole:.2g}")
            for each in results.noise
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


def _effect_text(effect: Effect) -> str:
    return f"{effect.mean:+.4f} ({effect.sd:.4f})"


def _sign_text(change: Compared) -> str:
    return ("right" if change.right else "wrong") if change.tells else "seeds differ"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def as_json(results: Results, *, whole: float) -> dict[str, Any]:
    """Return all results; computes are in tokens times parameters, as `whole`, that of the baseline's whole run."""

    def pair(change: Compared) -> dict[str, Any]:
        sides = {"short": change.short, "whole": change.whole}
        means = {side: {"mean": effect.mean, "sd": effect.sd} for side, effect in sides.items()}
        return {**dataclasses.asdict(change), **{f"{side}_effect": numbers for side, numbers in means.items()}}

    return {
        "whole": whole,
        "branches": [pair(change) for change in results.branches],
        "agreements": [dataclasses.asdict(each) for each in results.agreements],
        "races": [{"share": share, "shapes": [*map(pair, of_share)]} for share, of_share in results.races.items()],
        "predictions": [dataclasses.asdict(each) for each in results.predictions],
        "noise": [dataclasses.asdict(each) for each in results.noise],
    }


def main() -> None:
    """Train what is missing and print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--parquet", type=existing_file, help="train on this text instead of the standard library")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrain"), help="folder of the runs (default runs/retrain)"
    )
    parser.add_argument(
        "--iters",
        type=at_least(768),
        default=3072,
        help="length of the whole run, a multiple of 768 (default 3072)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    parquet = None if options.parquet is None else str(options.parquet)
    work = options.work.absolute() / ("embedded" if parquet is None else options.parquet.stem)
    work.mkdir(parents=True, exist_ok=True)
    dataset = prepare_data(study_of(options.iters, parquet=parquet), StudyPaths(work), progress=lambda _: None)
    bench = bench_of(options.iters, dataset, work, parquet=parquet)
    results = results_of(bench, train(bench, dataset, work))
    whole = compute_of(bench.config("whole", BASELINE, bench.iters, FIRST_SEED), "whole", bench.iters)
    print(
        json.dumps(as_json(results, whole=whole)) if options.json else "\n".join(markdown_lines(results, whole=whole))
    )


if __name__ == "__main__":
    main()
