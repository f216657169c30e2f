"""Figures of a replay: measures over orders, their errors, comparisons at equal compute, targets, and the table.

`benchmarks.pruning.replay` says what each measure means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.pruning.curve_banks import SCHEDULE, Bank

PLATEAU = "plateau"
"""name of this project's rule"""
BOUNDS = ("oracle", "informed")
"""policies that are no rules, because they know what a study can't"""
HARM = 0.005
"""nats by which a pruned trial must beat the best completed one for its prune to be harmful"""
MEANS = ("compute", "regret", "regret_at_quarter", "best_kept", "top_tenth_pruned")
"""measures that are means over orders"""
MEASURES = (*MEANS, "harmful", "coverage")
PAIRED_MEASURES = ("top_tenth_pruned", "regret")
SAFE = {"best_kept": 0.97, "top_tenth_pruned": 0.05, "harmful": 0.02}
"""limits of a safe rule: best_kept at least, the others at most"""
SAVING = 0.6
"""share of the way from the safe peer's compute to the oracle's"""

Measures = Mapping[str, float | None]
"""of one rule in one stratum, by the names of MEASURES"""


@dataclass(frozen=True, kw_only=True)
class OrderOutcome:
    """One replayed order."""

    compute: float
    regret: float
    regret_at_quarter: float
    best_kept: bool
    top_tenth_pruned: float
    pruned: NDArray[np.bool_]
    """(N,) by trial"""
    harmful: int
    """number of harmful prunes"""
    covered: float
    """share of a trial's bounds that its final loss respects, summed over trials"""
    bounded: int
    """number of trials with a bound"""


def measures_of(outcomes: Sequence[OrderOutcome]) -> dict[str, float | None]:
    """Return the measures over orders.

    harmful is 0 where nothing was pruned, and coverage is None where no trial had a bound.
    """
    prunes = sum(outcome.pruned.sum() for outcome in outcomes)
    bounded = sum(outcome.bounded for outcome in outcomes)
    means = {name: float(np.mean([getattr(outcome, name) for outcome in outcomes])) for name in MEANS}
    return {
        **means,
        "harmful": float(sum(outcome.harmful for outcome in outcomes) / max(1, prunes)),
        "coverage": sum(outcome.covered for outcome in outcomes) / bounded if bounded else None,
    }


def prune_rates(bank: Bank, outcomes: Sequence[OrderOutcome]) -> dict[str, dict[str, float]]:
    """Return the share of trials pruned in each third of the bank, by the knobs of the schedule."""
    pruned = np.mean([outcome.pruned for outcome in outcomes], axis=0)
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
    """Return the standard error of a statistic from its values without each of g equal groups: `sqrt((g-1)/g * SS)`."""
    values = np.asarray(left_out)
    return float(np.sqrt((len(values) - 1) * values.var()))


def agreement(bank: Bank) -> dict[str, float]:
    """Return Spearman's correlation of the loss with the final one, by share of the run: how hard the case is."""
    return {f"{share:g}": bank.agreement(share) for share in (0.1, 0.25, 0.4, 0.5, 0.7)}


def errors(whole: Measures, parts: Sequence[Measures]) -> dict[str, float | None]:
    """Return the standard error of each measure, None where a value is unknown."""
    known = [name for name in whole if all(measures[name] is not None for measures in (whole, *parts))]
    return {f"{name}_se": jackknife_se([part[name] for part in parts]) if name in known else None for name in whole}


def difference_at_equal_compute(
    plateau: Measures, plateau_parts: Sequence[Measures], peer: Measures, peer_parts: Sequence[Measures], name: str
) -> dict[str, Any]:
    """Return plateau less peer in one measure, with its interval; `unpruned` is the share of studies mixed in."""
    difference = mixed_difference(plateau, peer, name)
    se = jackknife_se([mixed_difference(a, b, name) for a, b in zip(plateau_parts, peer_parts, strict=True)])
    reach = float(special.stdtrit(len(plateau_parts) - 1, 0.975)) * se
    cheap, dear = sorted((plateau["compute"], peer["compute"]))
    return {
        "difference": difference,
        "se": se,
        "low": difference - reach,
        "high": difference + reach,
        "compute": dear,
        "mixed": PLATEAU if plateau["compute"] < peer["compute"] else "peer",
        "unpruned": unpruned_share(cheap, dear),
    }


def mixed_difference(plateau: Measures, peer: Measures, name: str) -> float:
    """Return plateau less peer at equal compute. Both measures are 0 without pruning, so mixing shrinks them."""
    cost, peer_cost = plateau["compute"], peer["compute"]
    return plateau[name] * (1 - unpruned_share(cost, peer_cost)) - peer[name] * (1 - unpruned_share(peer_cost, cost))


def unpruned_share(compute: float, wanted: float) -> float:
    """Return the share of studies to run unpruned for a mean compute of `wanted`; 0 where a rule already costs it."""
    return max(0.0, wanted - compute) / (1 - compute) if compute < 1 else 0.0


def target(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a stratum's safe peer, the compute needed, and which limits plateau meets; None where a policy lacks."""
    by_name = {row["name"]: row for row in rows}
    safe_peer = min(
        (row for name, row in by_name.items() if name not in (PLATEAU, *BOUNDS) and all(limits_kept(row).values())),
        key=lambda row: row["compute"],
        default=None,
    )
    oracle, plateau = by_name.get("oracle"), by_name.get(PLATEAU)
    needed = None
    if safe_peer is not None and oracle is not None:
        needed = safe_peer["compute"] - SAVING * (safe_peer["compute"] - oracle["compute"])
    met = None
    if plateau is not None and needed is not None:
        met = {"compute": plateau["compute"] <= needed, **limits_kept(plateau)}
    return {
        "safe_peer": safe_peer and safe_peer["name"],
        "safe_peer_compute": safe_peer and safe_peer["compute"],
        "oracle_compute": oracle and oracle["compute"],
        "needed_compute": needed,
        "compute": plateau and plateau["compute"],
        "met": met,
    }


def limits_kept(row: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether a rule keeps each limit of a safe one."""
    return {name: row[name] >= limit if name == "best_kept" else row[name] <= limit for name, limit in SAFE.items()}


def table(comparison: Mapping[str, Any]) -> str:
    """Return the comparison as text, a block per stratum."""
    lines = ["{bank}: {trials} trials of {evaluations} evaluations, {orders} orders".format_map(comparison)]
    heads = ("compute", "regret", "at 25 %", "best kept", "top pruned", "harmful", "coverage")
    for stratum, targets in comparison["targets"].items():
        ranks = ", ".join(f"{value:.2f} at {float(at):.0%}" for at, value in comparison["agreement"][stratum].items())
        lines += ["", f"{stratum}: Spearman's correlation of the loss with the final one: {ranks}"]
        lines.append(f"{'':>14}" + "".join(f"{head:>15}" for head in heads))
        for row in comparison["policies"]:
            if row["stratum"] == stratum:
                cells = (_with_error(row[name], row[f"{name}_se"]) for name in MEASURES)
                lines.append(f"{row['name']:>14}" + "".join(f"{cell:>15}" for cell in cells))
        for pair in comparison["paired"]:
            if pair["stratum"] == stratum:
                lines.append(
                    f"plateau - {pair['peer']} in {pair['measure']} at compute {pair['compute']:.2f}: "
                    f"{pair['difference']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"
                )
        lines.append(f"targets: {json.dumps(targets)}")
    return "\n".join(lines)


def _with_error(value: float | None, se: float | None) -> str:
    return "" if value is None else f"{value:.3f}" + ("" if se is None else f" ± {se:.3f}")
