"""Pruning rules replayed on a bank of unpruned curves: what each rule saves, and what it costs.

    python -m benchmarks.pruning.replay --bank FILE [--orders 100] [--policies a,b] [--strata all,best30] [--jobs 2]
            [--json]
    python -m benchmarks.pruning.replay --simulated cross-late|settles-early

The bank's configs run one after another in a random order, the same orders for every rule. A trial runs until the rule
prunes it or its curve ends. The stratum best30 has only the best 30 % of the bank's configs, which is the harder case.

Measures, over orders:

- compute: evaluations run, as a share of all;
- regret: final loss of the best completed trial less the stratum's best, nats per token (the stratum's worst counts
  where none was completed); regret_at_quarter: the same after a quarter of the stratum's evaluations;
- best_kept: share of orders in which the best config was not pruned; top_tenth_pruned: pruned share of the best tenth;
- harmful: share of the prunes whose final loss would have been better than the best completed one by over 0.005;
- coverage: share of a rule's lower bounds that the true final loss respects, over all looks at all trials, pruned ones
  included; each trial with a bound counts once;
- prune_rate: share of trials pruned in each third of the bank by warm-up, min_lr ratio and learning rate.

A run that diverges has ended by itself and is no prune.

Orders of one bank are no replication. `_se` is therefore a delete-a-group jackknife over the bank's configs: 10 random
groups are left out in turn, strata are formed again, and a fifth of the orders is replayed, the same orders for each
group. best_kept and regret depend on a single config and jump when it is left out, so their errors are rough, and too
large rather than too small.

`paired` compares plateau with each peer at equal compute. The cheaper one is mixed with no pruning: a random share of
its studies runs unpruned, just large enough to make it as costly as the other. Compute and both measures are linear in
that share, so the mixture needs no replay. The difference is plateau less peer; below 0 is better. Its 95 % interval is
Student's t with 9 degrees of freedom, with the share found again without each group.

Two policies are bounds rather than rules. The oracle knows the final losses. Informed is this project's rule given all
other curves.

`targets`: the safe peer is the cheapest that keeps the best in 97 % of orders, prunes at most 5 % of the top tenth and
is harmful in at most 2 %. The compute needed is 60 % of the way from its compute down to the oracle's.

100 orders of the 128 configs in bank_python.parquet take about two minutes on two cores.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import add_names, argument_errors, at_least, parser_of
from benchmarks.progress import watched
from benchmarks.pruning import curve_banks, peer_rules
from benchmarks.pruning.curve_banks import Bank
from benchmarks.pruning.peer_rules import Past, Policy, Stop
from benchmarks.pruning.replay_table import (
    BOUNDS,
    HARM,
    PAIRED_MEASURES,
    PLATEAU,
    OrderOutcome,
    agreement,
    difference_at_equal_compute,
    errors,
    measures_of,
    prune_rates,
    table,
    target,
)

STRATA = {"all": 1.0, "best30": 0.3}
"""share of the bank's configs, the best ones"""
GROUPS = 10
"""of the jackknife"""

Policies = Mapping[str, Callable[[Bank], Policy]]


class Plateau:
    """The project's rule at its defaults, without sentinels."""

    def __init__(self, bank: Bank) -> None:
        from sweeps.pruning.forecast import Curve
        from sweeps.pruning.rule import Rule, decide

        self.bank, self.rule = bank, Rule(trials=len(bank))
        self._curve, self._decide = Curve, decide
        self.schedules = bank.schedules

    def stop(self, trial: int, past: Past) -> Stop:
        others = [
            self.curve(other, end, **(note or {"final": float(self.bank.finals[other])}))
            for other, end, note in zip(past.trials, past.ends, past.notes, strict=True)
        ]
        return self.stop_given(trial, others)

    def stop_given(self, trial: int, others: Sequence[Any]) -> Stop:
        """Return where the rule stops a trial, given the other trials' curves."""
        lows = []
        for evaluation in range(1, min(int(self.bank.ends[trial]) + 1, self.bank.evaluations)):
            decision = self._decide(self.rule, self.curve(trial, evaluation), others)
            if decision.low is not None:
                lows.append(decision.low)
            if decision.prune:
                diverged = decision.reason == "diverged"
                note = {"final": math.inf} if diverged else {"final": None, "predicted": decision.prediction.mean}
                return Stop(evaluation, lows, note=note)
        return Stop(None, lows)

    def curve(self, trial: int, end: int, **known: Any) -> Any:
        """Return a trial's curve up to an evaluation, with what is known of its final loss."""
        return self._curve(
            losses=self.bank.losses[trial, : end + 1],
            schedule=self.schedules[trial],
            knobs=self.bank.knobs[trial],
            **known,
        )


class Informed(Plateau):
    """A bound: the same rule given all other trials' whole curves before any trial has run.

    It shows what the rule could save if the study had nothing left to learn.
    """

    def __init__(self, bank: Bank) -> None:
        super().__init__(bank)
        self.stops: dict[int, Stop] = {}

    def stop(self, trial: int, past: Past) -> Stop:
        if len(past.completed) < peer_rules.STARTUP:
            return Stop(None)
        if trial not in self.stops:
            ends = [(other, int(end)) for other, end in enumerate(self.bank.ends) if other != trial]
            others = [self.curve(other, end, final=float(self.bank.finals[other])) for other, end in ends]
            self.stops[trial] = self.stop_given(trial, others)
        return self.stops[trial]


POLICIES: Policies = {**peer_rules.PEER_POLICIES, "informed": Informed, PLATEAU: Plateau}


def replay(bank: Bank, policy: Policy, order: Iterable[int], *, study: str = "") -> OrderOutcome:
    """Run a bank's trials in this order under a rule."""
    finals, spent, past = bank.finals, 0, Past(study)
    pruned = np.zeros(len(bank), bool)
    incumbent, at_quarter = np.inf, np.inf
    covered, bounded = 0.0, 0
    for trial in order:
        stop, end = policy.stop(trial, past), int(bank.ends[trial])
        pruned[trial] = stop.at is not None and stop.at < end
        if pruned[trial]:
            end = stop.at
        completed = not pruned[trial] and bool(np.isfinite(finals[trial]))
        past.add(trial, end, completed=completed, note=stop.note if pruned[trial] else None)
        spent += end
        if completed:
            incumbent = min(incumbent, finals[trial])
        if spent <= 0.25 * len(bank) * bank.evaluations:
            at_quarter = incumbent
        if stop.lows:
            covered, bounded = covered + float(np.mean(finals[trial] >= np.array(stop.lows))), bounded + 1
    top, worst = bank.top_tenth(), finals[np.isfinite(finals)].max()
    return OrderOutcome(
        compute=spent / (len(bank) * bank.evaluations),
        regret=min(incumbent, worst) - finals[top[0]],
        regret_at_quarter=min(at_quarter, worst) - finals[top[0]],
        best_kept=not pruned[top[0]],
        top_tenth_pruned=float(pruned[top].mean()),
        pruned=pruned,
        harmful=int(np.count_nonzero(pruned & (finals < incumbent - HARM))),
        covered=covered,
        bounded=bounded,
    )


class ReplayTask(NamedTuple):
    """One order to replay."""

    policy: str
    stratum: str
    left_out: int | None
    """group of configs; None: none is left out"""
    order: int


class Replays:
    """Everything that a task needs: a bank, the orders of its trials and the groups of the jackknife."""

    def __init__(self, bank: Bank, policies: Policies, *, orders: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.bank, self.policies, self.orders = bank, policies, orders
        self.keys = rng.random((orders, len(bank)))
        self.groups = np.array_split(rng.permutation(len(bank)), min(GROUPS, len(bank)))
        self._members: dict[tuple[str, int | None], NDArray[np.int64]] = {}
        self._prepared: dict[tuple[str, str, int | None], tuple[Bank, Policy]] = {}

    def tasks(self, strata: Sequence[str]) -> list[ReplayTask]:
        """Return all tasks, shuffled so that the time taken predicts the time left."""
        tasks = [
            ReplayTask(policy, stratum, left_out, order)
            for policy in self.policies
            for stratum in strata
            for left_out in (None, *range(len(self.groups)))
            for order in range(self.orders if left_out is None else max(1, self.orders // 5))
        ]
        return [tasks[at] for at in np.random.default_rng(0).permutation(len(tasks))]

    def trials(self, stratum: str, left_out: int | None = None) -> NDArray[np.int64]:
        """Return the bank's trials in a stratum."""
        if (stratum, left_out) not in self._members:
            dropped = [] if left_out is None else self.groups[left_out]
            ranked = self.bank.ranked()
            ranked = ranked[~np.isin(ranked, dropped)]
            self._members[stratum, left_out] = np.sort(ranked[: max(1, round(STRATA[stratum] * len(ranked)))])
        return self._members[stratum, left_out]

    def run(self, task: ReplayTask) -> OrderOutcome:
        """Replay one order."""
        trials, key = self.trials(task.stratum, task.left_out), (task.policy, task.stratum, task.left_out)
        if key not in self._prepared:
            bank = self.bank.only(trials)
            self._prepared[key] = bank, self.policies[task.policy](bank)
        bank, policy = self._prepared[key]
        order = np.argsort(self.keys[task.order, trials]).tolist()
        return replay(bank, policy, order, study=f"replay-{task.order}")


_replays: Replays | None = None
"""of a worker process"""


def _set_replays(replays: Replays) -> None:
    global _replays
    _replays = replays


def _run_task(task: ReplayTask) -> OrderOutcome:
    assert _replays is not None
    return _replays.run(task)


def outcomes_of(replays: Replays, tasks: Sequence[ReplayTask], *, jobs: int) -> Iterator[OrderOutcome]:
    """Yield the outcomes in the order of the tasks."""
    if jobs == 1:
        yield from map(replays.run, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_set_replays, initargs=(replays,)) as pool:
        yield from pool.imap(_run_task, tasks)


def compare_policies(
    bank: Bank,
    policies: Policies,
    *,
    strata: Sequence[str] = tuple(STRATA),
    orders: int = 100,
    jobs: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Replay every rule in every stratum; return the command's JSON."""
    replays = Replays(bank, policies, orders=orders, seed=seed)
    tasks = replays.tasks(strata)
    outcomes: dict[tuple[str, str, int | None], list[OrderOutcome]] = {}
    ended = watched(outcomes_of(replays, tasks, jobs=jobs), len(tasks), noun="orders")
    for task, outcome in zip(tasks, ended, strict=True):
        outcomes.setdefault(task[:3], []).append(outcome)
    measures = {key: measures_of(group) for key, group in outcomes.items()}
    groups = range(len(replays.groups))
    rows, paired = [], []
    for stratum in strata:
        for policy in policies:
            whole = measures[policy, stratum, None]
            parts = [measures[policy, stratum, group] for group in groups]
            rates = prune_rates(bank.only(replays.trials(stratum)), outcomes[policy, stratum, None])
            rows.append({"name": policy, "stratum": stratum, **whole, **errors(whole, parts), "prune_rate": rates})
            if PLATEAU in policies and policy not in ("none", *BOUNDS, PLATEAU):
                plateau = measures[PLATEAU, stratum, None], [measures[PLATEAU, stratum, group] for group in groups]
                paired += [
                    {
                        "peer": policy,
                        "stratum": stratum,
                        "measure": name,
                        **difference_at_equal_compute(*plateau, whole, parts, name),
                    }
                    for name in PAIRED_MEASURES
                ]
    return {
        "bank": bank.name,
        "trials": len(bank),
        "evaluations": bank.evaluations,
        "orders": orders,
        "agreement": {stratum: agreement(bank.only(replays.trials(stratum))) for stratum in strata},
        "policies": rows,
        "paired": paired,
        "targets": {stratum: target([row for row in rows if row["stratum"] == stratum]) for stratum in strata},
    }


def main() -> int:
    """Print the comparison."""
    parser = parser_of(__doc__)
    curve_banks.add_bank_arguments(parser)
    parser.add_argument("--orders", type=at_least(1), default=100, help="random orders of the trials (default 100)")
    add_names(parser, "--policies", POLICIES)
    add_names(parser, "--strata", STRATA)
    parser.add_argument("--jobs", type=at_least(1), default=2, help="processes (default 2)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="seed of the orders and of the jackknife's groups (default 0)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    with argument_errors(parser):
        bank = curve_banks.chosen_bank(options)
    policies = {name: POLICIES[name] for name in options.policies}
    sizes = {"orders": options.orders, "jobs": options.jobs, "seed": options.seed}
    comparison = compare_policies(bank, policies, strata=options.strata, **sizes)
    print(json.dumps(comparison) if options.json else table(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
