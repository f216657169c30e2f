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
    """What more data would do, as far as the runs tell; nothing where the study doesn't ask."""
    results, tried, reference = findings.results, findings.amounts, findings.results.reference
    if not tried or reference is None:
        return []
    return [*(_measured(each, reference, results) for each in tried), *_concluded(tried, reference, results)]


def _measured(amount: Amount, reference: TrainConfig, results: Results) -> str:
    own = results.data.epochs(reference)
    where = f"On {_name(amount.fraction)} the training data (epochs: {amount.epochs:.2g} instead of {own:.2g})"
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


def _concluded(tried: tuple[Amount, ...], reference: TrainConfig, results: Results) -> Iterator[str]:
    """What follows, from the amount next above the baseline's, else the one next below it."""
    above = [each for each in tried if each.fraction > reference.data_fraction]
    next_to = above[-1] if above else tried[0]
    if next_to.gain is None:
        return
    floor, compared = next_to.gain.threshold, f"{_name(next_to.fraction)} it"
    if negligible(next_to.gain, floor):
        yield f"So more data would matter little to such runs: {compared} is within {floor:g} nats either way."
    elif shown(next_to.gain) and above:
        yield f"So more data helps: that {compared} ends lower by over {floor:g} nats is beyond the noise of seeds."
    elif shown(next_to.gain):
        yield (
            f"So more data would likely help: that {compared} ends higher by over {floor:g} nats is beyond the noise "
            "of seeds; that more than there is would end lower is the trend, which was not measured."
        )
    else:
        yield f"So more data isn't shown to help by over {floor:g} nats{_seeds_needed(next_to.gain, floor)}."
    yield from _of_the_long_run(reference, results)


def _seeds_needed(gain: Contrast, floor: float) -> str:
    more = None if harmful(gain, floor) else seeds_to_decide(gain, min_effect=floor)
    if more is None:
        return ""
    seeds = count(more, "more seed")
    return f"; {seeds} would decide, if mean and noise stay (raise baseline_seeds, and trials by as many a value)"


def _of_the_long_run(reference: TrainConfig, results: Results) -> Iterator[str]:
    iters = int(results.study.baseline["max_iters"])
    own, long = results.data.epochs(reference), results.data.epochs(reference) * iters / reference.max_iters
    if iters > reference.max_iters and long > 1:
        yield (
            f"This is about runs of {own:.2g} epochs: the baseline's own {iters:,} iterations make {long:.2g}, and the "
            "more often data is repeated, the more fresh data is worth."
        )


def _name(fraction: float) -> str:
    """'half of', '0.1 of'"""
    return _NAMES.get(fraction, f"{as_yaml(fraction)} of")
