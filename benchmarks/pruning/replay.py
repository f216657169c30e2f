"""Replay pruning rules on a bank of unpruned curves: what each saves, and what it costs.

    python -m benchmarks.pruning.replay --bank FILE [--orders 100] [--policies a,b] [--strata all,best30] [--jobs 2]
            [--json]
    python -m benchmarks.pruning.replay --simulated cross-late|settles-early

The bank's configs are run one after another in a random order, the same orders for every rule, and each trial goes on
until the rule prunes it or its curve ends. The stratum best30 is the bank's best 30 % alone: the harder case.

Measures, over orders:
- compute: evaluations run, as a share of all;
- regret: final loss of the best trial completed, less the stratum's best, nats (with none completed: the stratum's
  worst); regret_at_quarter: the same when a quarter of the stratum's evaluations has been spent;
- best_kept: share of orders in which the best config was not pruned; top_tenth_pruned: share pruned of the best tenth;
- harmful: share of the prunes whose final loss would have been over .005 better than that of the best completed;
- coverage: share of a rule's lower bounds that the true final loss keeps, over all looks at all trials, pruned ones
  too; each trial that had a bound counts once;
- prune_rate: share of trials pruned in each third of the bank by warm-up, min_lr ratio and learning rate.
A run that ends by itself (it diverged) is no prune.

Orders of one bank are no replication, so `_se` is a delete-a-group jackknife over the bank's configs: 10 random groups,
each left out in turn, strata made anew, and a fifth of the orders replayed, the same ones for each group. What hangs on
one config, best_kept and regret, jumps when that one is left out; their errors are rough, and rather too great.

`paired` compares plateau with each peer at equal compute. The cheaper of the two is mixed with no pruning: that share
of studies, drawn by lot, runs unpruned which makes it as costly as the other. Compute and both measures are linear in
that share, so the mixture needs no replay. The difference is plateau less peer: below 0 is better. Its interval is of
95 %, Student's t with 9 degrees of freedom, the share found anew without each group.

Two policies are bounds, no rules: oracle, which knows the final losses, and informed, our rule that knows all other
curves.

`targets`: the safe peer is the cheapest that keeps the best in 97 % of orders, prunes at most 5 % of the top tenth and
is harmful in at most 2 %; the compute needed is 60 % of the way from it down to the oracle's.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.progress import watched
from benchmarks.pruning import curve_banks, peer_rules
from benchmarks.pruning.curve_banks import SCHEDULE, Bank
from benchmarks.pruning.peer_rules import Past, Policy, Stop

OURS = "plateau"
STRATA = {"all": 1.0, "best30": 0.3}
"""share of the bank's configs, the best ones"""
HARM = 0.005
"""nats by which a pruned trial must beat the best completed one to have been worth it"""
GROUPS = 10
MEASURES = ("compute", "regret", "regret_at_quarter", "best_kept", "top_tenth_pruned", "harmful", "coverage")
PAIRED = ("top_tenth_pruned", "regret")
SAFE = {"best_kept": 0.97, "top_tenth_pruned": 0.05, "harmful": 0.02}
"""limits of a safe rule: best_kept at least, the others at most"""
SAVING = 0.6
"""of the way from the safe peer's compute to the oracle's"""


class Plateau:
    """The project's rule at its defaults, without sentinels."""

    def __init__(self, bank: Bank) -> None:
        from sweeps.pruning.forecast import Curve
        from sweeps.pruning.rule import Rule, decide

        self.bank, self.make, self.decide, self.rule = bank, Curve, decide, Rule(trials=len(bank))
        self.schedules = bank.schedules

    def stop(self, trial: int, past: Past) -> Stop:
        others = [
            self.curve(each, end, **(note or {"final": float(self.bank.finals[each])}))
            for each, end, note in zip(past.trials, past.ends, past.notes, strict=True)
        ]
        return self.given(trial, others)

    def given(self, trial: int, others: Sequence[Any]) -> Stop:
        """Where it stops a trial, these curves being known."""
        lows = []
        for evaluation in range(1, min(int(self.bank.ends[trial]) + 1, self.bank.evaluations)):
            decision = self.decide(self.rule, self.curve(trial, evaluation), others)
            if decision.low is not None:
                lows.append(decision.low)
            if decision.prune:
                diverged = decision.reason == "diverged"
                known = {"final": math.inf} if diverged else {"final": None, "predicted": decision.prediction.mean}
                return Stop(evaluation, lows, note=known)
        return Stop(None, lows)

    def curve(self, trial: int, end: int, **known: Any) -> Any:
        return self.make(
            losses=self.bank.losses[trial, : end + 1],
            schedule=self.schedules[trial],
            knobs=self.bank.knobs[trial],
            **known,
        )


class Informed(Plateau):
    """The same rule, told of all other trials' whole curves before any has run: what it could save were nothing left to
    be learned in the study. No rule, but a bound, as the oracle is."""

    def __init__(self, bank: Bank) -> None:
        super().__init__(bank)
        self.stops: dict[int, Stop] = {}

    def stop(self, trial: int, past: Past) -> Stop:
        if len(past.completed) < peer_rules.STARTUP:
            return Stop(None)
        if trial not in self.stops:
            ends = [(each, int(end)) for each, end in enumerate(self.bank.ends) if each != trial]
            others = [self.curve(each, end, final=float(self.bank.finals[each])) for each, end in ends]
            self.stops[trial] = self.given(trial, others)
        return self.stops[trial]


BOUNDS = ("oracle", "informed")
"""no rules: they know what nobody can"""
POLICIES: dict[str, Callable[[Bank], Policy]] = {**peer_rules.POLICIES, "informed": Informed, OURS: Plateau}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One order replayed; the measures' numbers for it, see the module."""

    compute: float
    regret: float
    regret_at_quarter: float
    best_kept: bool
    top_tenth_pruned: float
    pruned: NDArray[np.bool_]
    """(N,) by trial"""
    harmful: int
    """prunes that were"""
    covered: float
    """sum over trials of the share of their bounds kept"""
    bounded: int
    """trials that had a bound"""


def replay(bank: Bank, policy: Policy, order: Iterable[int], *, study: str = "") -> Outcome:
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
    return Outcome(
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


def measure(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """The measures over orders; harmful is 0 where nothing was pruned, coverage None where nothing had a bound."""
    prunes, bounded = sum(each.pruned.sum() for each in outcomes), sum(each.bounded for each in outcomes)
    means = {name: float(np.mean([getattr(each, name) for each in outcomes])) for name in MEASURES[:5]}
    return {
        **means,
        "harmful": float(sum(each.harmful for each in outcomes) / max(1, prunes)),
        "coverage": sum(each.covered for each in outcomes) / bounded if bounded else None,
    }


def prune_rates(bank: Bank, outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Share of trials pruned in each third of the bank by the knobs of the schedule."""
    pruned = np.mean([each.pruned for each in outcomes], axis=0)
    thirds = {
        name: np.array_split(np.argsort(bank.settings[name], kind="stable"), 3)
        for name in SCHEDULE
        if name in bank.settings
    }
    return {
        name: {word: float(pruned[third].mean()) for word, third in zip(("low", "middle", "high"), split, strict=True)}
        for name, split in thirds.items()
    }


def jackknife_se(left_out: Sequence[float]) -> float:
    """Standard error of a statistic from its values with each of g equal groups left out: `sqrt((g-1)/g * SS)`."""
    values = np.asarray(left_out)
    return float(np.sqrt((len(values) - 1) * values.var()))


class Task(NamedTuple):
    """One order to replay."""

    policy: str
    stratum: str
    left_out: int | None
    """group of configs; None: none is left out"""
    order: int


class Replays:
    """A bank, the orders of its trials and the groups of the jackknife; everything a task needs."""

    def __init__(self, bank: Bank, policies: Mapping[str, Callable[[Bank], Policy]], *, orders: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.bank, self.policies, self.orders = bank, policies, orders
        self.keys = rng.random((orders, len(bank)))
        self.groups = np.array_split(rng.permutation(len(bank)), min(GROUPS, len(bank)))
        self.members: dict[tuple[str, int | None], NDArray[np.int64]] = {}
        self.made: dict[tuple[str, str, int | None], tuple[Bank, Policy]] = {}

    def tasks(self, strata: Sequence[str]) -> list[Task]:
        """All that is to be replayed, shuffled, so that the time left can be told from the time taken."""
        tasks = [
            Task(policy, stratum, left_out, order)
            for policy in self.policies
            for stratum in strata
            for left_out in (None, *range(len(self.groups)))
            for order in range(self.orders if left_out is None else max(1, self.orders // 5))
        ]
        return [tasks[at] for at in np.random.default_rng(0).permutation(len(tasks))]

    def trials(self, stratum: str, left_out: int | None = None) -> NDArray[np.int64]:
        """The bank's trials in a stratum."""
        if (stratum, left_out) not in self.members:
            dropped = [] if left_out is None else self.groups[left_out]
            ranked = self.bank.ranked()
            ranked = ranked[~np.isin(ranked, dropped)]
            self.members[stratum, left_out] = np.sort(ranked[: max(1, round(STRATA[stratum] * len(ranked)))])
        return self.members[stratum, left_out]

    def run(self, task: Task) -> Outcome:
        trials, key = self.trials(task.stratum, task.left_out), (task.policy, task.stratum, task.left_out)
        if key not in self.made:
            bank = self.bank.only(trials)
            self.made[key] = bank, self.policies[task.policy](bank)
        bank, policy = self.made[key]
        order = np.argsort(self.keys[task.order, trials]).tolist()
        return replay(bank, policy, order, study=f"replay-{task.order}")


_replays: Replays | None = None
"""of a worker process"""


def _begin(replays: Replays) -> None:
    global _replays
    _replays = replays


def _run(task: Task) -> Outcome:
    assert _replays is not None
    return _replays.run(task)


def outcomes_of(replays: Replays, tasks: Sequence[Task], *, jobs: int) -> Iterator[Outcome]:
    """Outcomes in the order of the tasks."""
    if jobs == 1:
        yield from map(replays.run, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_begin, initargs=(replays,)) as pool:
        yield from pool.imap(_run, tasks)


def compare(
    bank: Bank,
    policies: Mapping[str, Callable[[Bank], Policy]],
    *,
    strata: Sequence[str] = tuple(STRATA),
    orders: int = 100,
    jobs: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Replay every rule in every stratum; the JSON of the command."""
    replays = Replays(bank, policies, orders=orders, seed=seed)
    tasks = replays.tasks(strata)
    grouped: dict[tuple[str, str, int | None], list[Outcome]] = {}
    ended = watched(outcomes_of(replays, tasks, jobs=jobs), len(tasks), noun="orders")
    for task, outcome in zip(tasks, ended, strict=True):
        grouped.setdefault(task[:3], []).append(outcome)
    measured = {key: measure(outcomes) for key, outcomes in grouped.items()}
    groups = range(len(replays.groups))
    rows, paired = [], []
    for stratum in strata:
        for policy in policies:
            whole = measured[policy, stratum, None]
            parts = [measured[policy, stratum, group] for group in groups]
            rates = prune_rates(bank.only(replays.trials(stratum)), grouped[policy, stratum, None])
            rows.append({"name": policy, "stratum": stratum, **whole, **errors(whole, parts), "prune_rate": rates})
            if OURS in policies and policy not in ("none", *BOUNDS, OURS):
                ours = measured[OURS, stratum, None], [measured[OURS, stratum, group] for group in groups]
                paired += [
                    {"peer": policy, "stratum": stratum, "measure": name, **difference(*ours, whole, parts, name)}
                    for name in PAIRED
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


def agreement(bank: Bank) -> dict[str, float]:
    """Spearman's correlation of the loss with the final one, by share of the run: how hard the case is."""
    return {f"{share:g}": bank.agreement(share) for share in (0.1, 0.25, 0.4, 0.5, 0.7)}


Measured = Mapping[str, float | None]


def errors(whole: Measured, parts: Sequence[Measured]) -> dict[str, float | None]:
    """Standard error of each measure that is known."""
    known = [name for name in whole if all(each[name] is not None for each in (whole, *parts))]
    return {f"{name}_se": jackknife_se([part[name] for part in parts]) if name in known else None for name in whole}


def difference(
    ours: Measured, our_parts: Sequence[Measured], peer: Measured, peer_parts: Sequence[Measured], name: str
) -> dict[str, Any]:
    """Plateau less peer in one measure at equal compute, with its interval; `unpruned` is the share mixed in."""
    found = at_equal_compute(ours, peer, name)
    se = jackknife_se([at_equal_compute(a, b, name) for a, b in zip(our_parts, peer_parts, strict=True)])
    reach = float(special.stdtrit(len(our_parts) - 1, 0.975)) * se
    cheap, dear = sorted((ours["compute"], peer["compute"]))
    return {
        "difference": found,
        "se": se,
        "low": found - reach,
        "high": found + reach,
        "compute": dear,
        "mixed": OURS if ours["compute"] < peer["compute"] else "peer",
        "unpruned": unpruned(cheap, dear),
    }


def at_equal_compute(ours: Measured, peer: Measured, name: str) -> float:
    """Ours less the peer's; both measures are 0 without pruning, so mixing shrinks them."""
    a, b = ours["compute"], peer["compute"]
    return ours[name] * (1 - unpruned(a, b)) - peer[name] * (1 - unpruned(b, a))


def unpruned(compute: float, wanted: float) -> float:
    """Share of studies to run unpruned for a mean compute of `wanted`; 0 where a rule costs that already."""
    return max(0.0, wanted - compute) / (1 - compute) if compute < 1 else 0.0


def target(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A stratum's safe peer, the compute that ours needs, and what of it is met; None where a policy is missing."""
    named = {row["name"]: row for row in rows}
    safe = min(
        (row for name, row in named.items() if name not in (OURS, *BOUNDS) and all(is_safe(row).values())),
        key=lambda row: row["compute"],
        default=None,
    )
    oracle, ours = named.get("oracle"), named.get(OURS)
    needed = None
    if safe is not None and oracle is not None:
        needed = safe["compute"] - SAVING * (safe["compute"] - oracle["compute"])
    return {
        "safe_peer": safe and safe["name"],
        "safe_peer_compute": safe and safe["compute"],
        "oracle_compute": oracle and oracle["compute"],
        "needed_compute": needed,
        "compute": ours and ours["compute"],
        "met": None if ours is None or needed is None else {"compute": ours["compute"] <= needed, **is_safe(ours)},
    }


def is_safe(row: Mapping[str, Any]) -> dict[str, bool]:
    """Each limit of a safe rule: is it kept?"""
    return {name: row[name] >= limit if name == "best_kept" else row[name] <= limit for name, limit in SAFE.items()}


def table(found: Mapping[str, Any]) -> str:
    """What the command prints."""
    lines = ["{bank}: {trials} trials of {evaluations} evaluations, {orders} orders".format_map(found)]
    heads = ("compute", "regret", "at 25 %", "best kept", "top pruned", "harmful", "coverage")
    for stratum, targets in found["targets"].items():
        ranks = ", ".join(f"{value:.2f} at {float(at):.0%}" for at, value in found["agreement"][stratum].items())
        lines += ["", f"{stratum}: Spearman of the loss with the final one {ranks}"]
        lines.append(f"{'':>14}" + "".join(f"{head:>15}" for head in heads))
        for row in found["policies"]:
            if row["stratum"] == stratum:
                cells = (plus_minus(row[name], row[f"{name}_se"]) for name in MEASURES)
                lines.append(f"{row['name']:>14}" + "".join(f"{cell:>15}" for cell in cells))
        for pair in found["paired"]:
            if pair["stratum"] == stratum:
                lines.append(
                    f"plateau - {pair['peer']} in {pair['measure']} at compute {pair['compute']:.2f}: "
                    f"{pair['difference']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"
                )
        lines.append(f"targets: {json.dumps(targets)}")
    return "\n".join(lines)


def plus_minus(value: float | None, se: float | None) -> str:
    return "" if value is None else f"{value:.3f}" + ("" if se is None else f" ± {se:.3f}")


def names(text: str, known: Iterable[str]) -> list[str]:
    """The comma-separated names of an option."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    curve_banks.add_arguments(parser)
    parser.add_argument("--orders", type=int, default=100, help="random orders of the trials (default 100)")
    parser.add_argument("--policies", type=lambda text: names(text, POLICIES), default=list(POLICIES), metavar="A,B")
    parser.add_argument("--strata", type=lambda text: names(text, STRATA), default=list(STRATA), metavar="A,B")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the orders and the jackknife's groups (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    bank = curve_banks.asked_for(options)
    policies = {name: POLICIES[name] for name in options.policies}
    given = {"strata": options.strata, "orders": options.orders, "jobs": options.jobs, "seed": options.seed}
    found = compare(bank, policies, **given)
    print(json.dumps(found) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
