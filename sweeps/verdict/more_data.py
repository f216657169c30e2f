"""Sentences about the amount of data: what training on less of it costs, and whether more would help."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.analysis.more_data import Amount
from sweeps.analysis.significance import harmful, negligible, seeds_to_decide, shown
from sweeps.store.records import Results
from sweeps.study.model import as_yaml
from sweeps.text import count, signed
from trainer.config import TrainConfig

_NAMES = {0.5: "half of", 0.25: "a quarter of", 1.0: "all of"}


def sentences(findings: Findings) -> list[str]:
    """Return what more data would do, as far as the runs show. Empty where the study doesn't sweep the amount."""
    results, amounts, reference = findings.results, findings.amounts, findings.results.reference
    if not amounts or reference is None:
        return []
    return [
        *(_measured(amount, reference, results) for amount in amounts),
        *_concluded(amounts, reference, results),
    ]


def _measured(amount: Amount, reference: TrainConfig, results: Results) -> str:
    epochs = results.data.epochs(reference)
    where = f"On {_name(amount.fraction)} the training data (epochs: {amount.epochs:.2g} instead of {epochs:.2g})"
    if amount.gain is None:
        return f"{where} the baseline has no final loss to compare yet."
    sign = 1 if amount.fraction < reference.data_fraction else -1
    change = sign * amount.gain.mean
    text = f"{where} the baseline ends {abs(change):.3f} nats {'higher' if change > 0 else 'lower'}"
    seeds = f"{count(amount.seeds, 'seed')} against {len(results.baseline_runs)}"
    if amount.gain.low is None or amount.gain.high is None:
        return f"{text} ({seeds}, too few for an interval)."
    low, high = sorted(sign * end for end in (amount.gain.low, amount.gain.high))
    return f"{text} (95 % interval {signed(low)} to {signed(high)}, {seeds})."


def _concluded(amounts: tuple[Amount, ...], reference: TrainConfig, results: Results) -> Iterator[str]:
    """Yield what follows from the amount next above the baseline's, else from the one next below it."""
    above = [amount for amount in amounts if amount.fraction > reference.data_fraction]
    nearest = above[-1] if above else amounts[0]
    if nearest.gain is None:
        return
    floor, name = nearest.gain.threshold, _name(nearest.fraction)
    if negligible(nearest.gain, floor):
        yield f"So more data would matter little here: with {name} it the loss changes by less than {floor:g} nats."
    elif shown(nearest.gain) and above:
        yield f"So more data helps: with {name} it runs end more than {floor:g} nats lower, beyond the noise of seeds."
    elif shown(nearest.gain):
        yield (
            f"So more data would likely help: with {name} it runs end more than {floor:g} nats higher, beyond the "
            "noise of seeds. More data than there is would lower the loss if this trend goes on; that was not measured."
        )
    else:
        yield f"So more data isn't shown to help by more than {floor:g} nats{_seeds_needed(nearest.gain, floor)}."
    yield from _long_run(reference, results)


def _seeds_needed(gain: Contrast, floor: float) -> str:
    more = None if harmful(gain, floor) else seeds_to_decide(gain, min_effect=floor)
    if more is None:
        return ""
    return (
        f"; {count(more, 'more seed')} would decide it, if mean and noise stay as they are (raise baseline_seeds by "
        "that number, and trials by that number per value)"
    )


def _long_run(reference: TrainConfig, results: Results) -> Iterator[str]:
    """Yield a warning where the baseline's own run repeats its data and is longer than the trials."""
    iters = int(results.study.baseline["max_iters"])
    epochs = results.data.epochs(reference)
    long_epochs = epochs * iters / reference.max_iters
    if iters > reference.max_iters and long_epochs > 1:
        yield (
            f"This holds for runs of {epochs:.2g} epochs. The baseline's own {iters:,} iterations make "
            f"{long_epochs:.2g}, and the more often data is repeated, the more fresh data is worth."
        )


def _name(fraction: float) -> str:
    """Return 'half of', '0.1 of'."""
    return _NAMES.get(fraction, f"{as_yaml(fraction)} of")
