"""The commands before a study: plan and prepare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands.opening import load_study
from sweeps.commands.options import AsJson, Baseline, Candidates, Data, From, Log, Out, Profile, Set, StudyFile
from sweeps.commands.printing import preparing, remarks

if TYPE_CHECKING:
    from sweeps.study.study import Study


def plan(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    baseline: Baseline = None,
    from_: From = None,
    log: Log = None,
    candidate: Candidates = None,
    out: Out = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help='plan for a card that is not here: "RTX 4070"')
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="plan for a card with this much memory: 12GiB")
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(metavar="TFLOPS", help="the card's dense peak in 16 bits, for one that sweep doesn't know: 58"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="print the study as well, with every default")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a study will run and how long that takes. Trains nothing."""
    elsewhere = device is not None or memory is not None or peak is not None
    loaded = load_study(
        study, profile, set_, data, baseline, start=from_, log=log, candidates=candidate, for_a_card=elsewhere
    )
    from sweeps.engine import session
    from sweeps.engine.checks import check_lengths, check_start
    from sweeps.engine.planning.plan import plan as make_plan
    from sweeps.paths import paths_of
    from sweeps.store.records import DataFacts
    from trainer.machine.cpu import busy_processes
    from trainer.machine.device import card_of, describe

    paths, busy = paths_of(loaded.name, out=out), 0.0 if elsewhere else busy_processes()
    devices = loaded.workers.devices
    planned_for = (
        card_of(device, memory, peak) if elsewhere else describe(devices if isinstance(devices, str) else devices[0])
    )
    with preparing(as_json) as progress:
        dataset = session.prepare_data(loaded, paths, progress=progress)
    seen = {} if elsewhere else session.seen_speeds(loaded, paths, planned_for.kind)
    facts = DataFacts.of(dataset)
    check_lengths(loaded, facts)
    check_start(loaded, facts)
    study_plan = make_plan(loaded, facts, planned_for, seen=seen, busy=busy)
    if as_json:
        print(json.dumps({**study_plan.as_json(), "resolved": loaded.as_written()}))
        return
    for note in (*loaded.notes, *dataset.notes):
        print(f"note: {note}")
    for line in study_plan.lines():
        print(line)
    print(f"\nresolved study:\n{_yaml(loaded)}" if full else "--full prints the study with every default")


def prepare(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tokenize a study's data now. `sweep run` then finds it ready."""
    loaded = load_study(study, profile, set_, data, None, for_a_card=profile == "cuda")
    from sweeps.engine import session
    from sweeps.paths import paths_of
    from sweeps.store.records import DataFacts

    paths = paths_of(loaded.name, out=out)
    with preparing(as_json) as progress:
        facts = DataFacts.of(session.prepare_data(loaded, paths, progress=progress))
    if as_json:
        print(json.dumps(facts.as_dict()))
        return
    for line in remarks(facts):
        print(line)
    per_token = f", {facts.bytes_per_token:.2f} bytes per token" if facts.bytes_per_token else ""
    print(f"{facts.path}\n{facts.train_tokens:,} training tokens, {facts.val_tokens:,} validation tokens{per_token}")


def _yaml(study: Study) -> str:
    import yaml

    return yaml.safe_dump(study.as_written(), sort_keys=False).rstrip()
