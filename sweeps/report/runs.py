"""Sections of the report about single runs: the table of every run, and how the study was made."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sweeps.analysis.findings import Findings
from sweeps.analysis.sensitivity import Sensitivity
from sweeps.report.markup import cell, command, head, number, row, table, terms
from sweeps.store.records import ESTIMATE, Outcome, Results, Run
from sweeps.study import horizon, pilot_runs
from sweeps.study.start import CheckpointStart, TrainStart
from sweeps.study.study import Study
from sweeps.text import count, duration, joined, perplexity, short, signed


def runs_table(results: Results) -> str:
    """Return a sortable table of all runs as HTML."""
    if not results.runs:
        return '<p class="empty">No run has started.</p>'
    knobs = list(results.study.knobs)
    columns = [("Run", "number"), ("Label", ""), ("Phase", ""), ("Origin", ""), ("Outcome", "")]
    columns += [("Final loss", "number"), ("Perplexity", "number"), *((knob, "number") for knob in knobs)]
    columns += [("Seed", "number"), ("Tokens", "number"), ("Seconds", "number"), ("Remark", "")]
    note = '<p class="note">Press a column’s name to sort by it.</p>'
    rows = [_run_row(run, knobs) for run in results.runs]
    caption = "Losses are on the large set of validation windows, nats per token"
    return f"{note}\n{table(caption, head(columns), rows, kind='runs')}"


def _run_row(run: Run, knobs: Sequence[str]) -> str:
    config = run.config.as_dict()
    tokens = run.points[-1].tokens if run.points else 0
    loss = run.val_loss
    return row(
        [
            number(str(run.id), value=run.id),
            cell(run.label, "words"),
            cell(run.phase),
            cell(run.origin),
            cell(run.outcome),
            number("–" if loss is None else f"{loss:.4f}", value=loss),
            number("–" if loss is None else f"{perplexity(loss):.4g}", value=loss),
            *(number(short(config[knob]), value=config[knob]) for knob in knobs),
            number(str(run.seed), value=run.seed),
            number(f"{tokens:,}", value=tokens),
            number(f"{run.seconds:.0f}", value=run.seconds),
            cell(_remark(run), "words"),
        ]
    )


def _remark(run: Run) -> str:
    """Return why the run ended, with a halted run's last loss, or why a sentinel would have been stopped."""
    if run.outcome == Outcome.HALTED and run.points:
        return f"{run.reason}; {run.points[-1].val_loss:.4f} on the small set"
    if run.pruning is None or not run.pruning.sentinel:
        return run.reason
    parts = [f"sentinel, went on; {run.pruning.why}", run.reason]
    return "; ".join(part for part in parts if part)


def provenance(findings: Findings) -> str:
    """Return data, seeds, machine, time and commands of the study as HTML."""
    results = findings.results
    data, reference = results.data, results.reference
    facts = {
        "data": data.path,
        "data fingerprint": data.fingerprint,
        **({"notes on the data": "; ".join((*data.warnings, *data.notes))} if data.warnings or data.notes else {}),
        "tokens": f"{data.train_tokens:,} to train on, {data.val_tokens:,} to validate on",
        "vocabulary": f"{data.vocab_size:,} tokens",
        "search seed": str(results.study.seed),
        "seeds used": "; ".join(_seeds_by_phase(results)) or "–",
        "trained on": ", ".join(sorted({kind for run in results.runs for kind in run.kinds or (run.device,)})) or "–",
        "time": _time(results),
    }
    facts |= _of_the_start(results.study)
    if reference is not None:
        tokens = reference.max_iters * reference.tokens_per_iter
        epochs = f"{data.epochs(reference):.2g} epochs of the training data"
        origin = results.study.origin
        begin = "" if origin is None else f" from the origin at step {origin.step:,}"
        facts["a trial"] = f"{reference.max_iters:,} iterations{begin}, {tokens:,} tokens, {epochs}"
    study = results.study
    if study.chosen is not None and study.largest_sd is not None:
        facts["pilot"] = pilot_runs.chosen_in_words(study.chosen, largest_sd=study.largest_sd)
    if known := findings.sensitivity:
        facts["noise"] = _noise(known, study)
    if study.fit is not None:
        facts["horizon"] = "; ".join(horizon.fit_in_words(study))
    facts |= {name: value for name, value in results.provenance.items() if name != ESTIMATE}
    commands = "\n".join(command(line) for line in _commands(results))
    return f"{terms(facts.items())}\n<h4>Commands to repeat the study</h4>\n{commands}"


def _of_the_start(study: Study) -> Mapping[str, str]:
    """Return where the branches start and what they and the races are measured by; empty for trials from scratch."""
    facts = {}
    origin, race = study.origin, study.race
    if isinstance(study.start, CheckpointStart):
        log = "" if study.start.log is None else f", with the log {study.start.log}"
        facts["start"] = f"{study.start.checkpoint}{log}"
    elif isinstance(study.start, TrainStart):
        facts["start"] = f"the baseline, trained for up to {study.start.train.max_iters:,} iterations"
    if origin is not None:
        seed = "" if origin.seed is None else f" of seed {origin.seed}"
        rate = f"learning rate {short(origin.learning_rate)}"
        facts["origin"] = "; ".join([f"step {origin.step:,}{seed}", rate, f"sha256 {origin.sha256}", *origin.notes])
        if origin.going_on is not None:
            facts["going on"] = f"{signed(-origin.going_on)} nats in {study.iters:,} iterations"
        facts["min_effect"] = f"{short(study.min_effect)} nats"
    if race is not None:
        names = joined(f"{name} {short(value)}" for name, value in race.changes())
        facts["races"] = f"{race.iters:,} iterations, up to twice as many, {count(race.seeds, 'seed')}: {names}"
    return facts


def _noise(known: Sensitivity, study: Study) -> str:
    """Return how far seeds differ, and the effects that the confirm phase can show."""
    text = f"{known.seeds} seeds of the baseline differ by {known.sd:.2g} nats (sd) at {known.horizon:,} iterations"
    if study.branches:
        text = (
            f"a branch and the control at its seed differ by a gain that varies by {known.sd:.2g} nats (sd) over seeds"
        )
    if known.detects is None:
        return text
    return f"{text}; effects above {known.detects:.2g} nats can be shown on {study.confirm.seeds} seeds"


def _time(results: Results) -> str:
    """Return the time of the sweep and of one baseline run, beside the estimate made at the start."""
    seconds = [run.seconds for run in results.baseline_runs]
    per_run = f", {duration(statistics.fmean(seconds))} per run of the baseline" if seconds else ""
    time, estimate = f"{duration(results.seconds)}{per_run}", results.provenance.get(ESTIMATE)
    return time if estimate is None else f"estimated at the start: {estimate}; took: {time}"


def _seeds_by_phase(results: Results) -> Iterator[str]:
    for phase in dict.fromkeys(run.phase for run in results.runs):
        seeds = sorted({run.seed for run in results.runs if run.phase == phase})
        yield f"{phase} {', '.join(map(str, seeds))}"


def _commands(results: Results) -> Iterator[str]:
    """Yield the command that ran the study and those that read it; the program is named without its folder."""
    started = results.provenance.get("command", "")
    program, _, arguments = started.partition(" ")
    if started:
        yield f"sweep {arguments}" if Path(program).name == "sweep" else started
    yield from map(results.command, ("report", "verdict", "export"))
