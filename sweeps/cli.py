"""The command `sweep`: arguments and printing only. Each command imports what it needs when it runs."""

from __future__ import annotations

import datetime
import importlib
import json
import shutil
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps import signals
from sweeps.store.records import Outcome
from trainer.errors import UserError

if TYPE_CHECKING:
    from sweeps.analysis.findings import Findings
    from sweeps.paths import StudyPaths
    from sweeps.store.records import Results
    from sweeps.study.study import Study
    from sweeps.terminal import LiveView, PlainView
    from sweeps.verdict.verdict import Verdict


app = typer.Typer(
    name="sweep",
    help="Which knob breaks the loss plateau of a small GPT: by how much, how sure, and what to train next.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[str, typer.Argument(metavar="STUDY.yaml", help="the study; `sweep init` writes one")]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="a study's name, its folder, its .db file, or its YAML file")
]
Profile = Annotated[
    str | None, typer.Option(metavar="NAME", help="one of the study's profiles, instead of the machine's")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key: --set knobs.dropout.high=0.5")
]
Data = Annotated[
    str | None, typer.Option(metavar="WHERE", help="parquet files, globs, URLs, or a nanoGPT data folder to train on")
]
Baseline = Annotated[
    str | None, typer.Option(metavar="FILE.py", help="a nanoGPT config, read as data, to stand in for the baseline")
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="folder of the results, instead of runs/<study>")]
AsJson = Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout; the rest goes to stderr")]


def main() -> None:
    """Run the command. Exit codes: 0, 1 our fault, 2 the user's mistake, 128 + N ended by signal N (130 Ctrl-C)."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        with signals.ending():
            app()
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    baseline: Baseline = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Run a study, or go on with it; ends with the verdict so far and a report."""
    from sweeps.workers.launch import warm_up

    warm_up()
    loaded = _load(study, profile, set_, data, baseline)
    from sweeps.paths import paths_of

    _sweep(loaded, paths_of(loaded.name, out=out), as_json)


@app.command()
def confirm(
    study: StudyName,
    out: Out = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, max=32, metavar="N", help="seeds of a comparison that fewer don't decide")
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="most runs of this phase; by default as many again as the study says"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove or refute what a study has found: more runs on fresh seeds; never one that exists."""
    from sweeps.workers.launch import warm_up

    warm_up()
    from sweeps.analysis.arms import PHASE
    from sweeps.study.sections import Confirm

    located, results = _results(study, out)
    before = results.study.confirm
    done = sum(run.phase == PHASE for run in results.runs)
    wanted = Confirm(
        seeds=seeds or before.seeds,
        max_trials=max_trials or done + (before.max_trials or Confirm().max_trials),
        min_effect=before.min_effect,
    )
    _sweep(results.study.model_copy(update={"confirm": wanted, "store": located.url}), located.paths, as_json)


def _sweep(study: Study, paths: StudyPaths, as_json: bool) -> None:
    """Prepare, run to the end, and say what was found."""
    from sweeps.engine import session
    from sweeps.store.store import Store

    # the libraries that draw load while the workers load theirs
    threading.Thread(target=importlib.import_module, args=("sweeps.report.publish",), daemon=True).start()
    say = _say(as_json)
    for note in study.notes:
        say(f"note: {note}")
    with _preparing(as_json) as progress:
        dataset = session.prepare_data(study, paths, progress=progress)
    say(f"data: {dataset.path} ({dataset.train.tokens:,} training tokens, {dataset.val.tokens:,} validation tokens)")
    with Store(session.store_url(study, paths)) as store:
        with _view(as_json) as view:
            summary = session.run(study, paths, store, dataset, observer=view)
        from sweeps.analysis.findings import Findings
        from sweeps.report.publish import close

        findings = Findings(store.results(study.name))
        written = close(findings, store, paths)
    from sweeps.verdict.as_json import summarize
    from sweeps.verdict.verdict import verdict

    if as_json:
        print(json.dumps(summarize(findings, seconds=summary.seconds, store=store.path, report=written)))
    else:
        print()
        _print(verdict(findings))
        print(f"\nreport: {written}\nstore:  {store.path}   (sweep dashboard {study.name} shows it)")
    if summary.interrupted:
        say("interrupted: run the same command to go on")
        raise typer.Exit(signals.exit_code(summary.interrupted))
    if summary.truncated:
        say(f"hours: {study.hours:g} are over; raise hours and run the same command to go on")


@app.command()
def plan(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    baseline: Baseline = None,
    out: Out = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help='plan for a card that is not here: "RTX 4070"')
    ] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="plan for a card of so much memory: 12GiB")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study will do and how long that takes; trains nothing."""
    elsewhere = device is not None or memory is not None
    loaded = _load(study, profile, set_, data, baseline, for_a_card=elsewhere)
    from sweeps.engine import session
    from sweeps.engine.planning.plan import plan as make_plan
    from sweeps.paths import paths_of
    from sweeps.store.records import DataFacts
    from trainer.machine.device import card_of, describe

    paths = paths_of(loaded.name, out=out)
    listed = loaded.workers.devices
    here = card_of(device, memory) if elsewhere else describe(listed if isinstance(listed, str) else listed[0])
    with _preparing(as_json) as progress:
        dataset = session.prepare_data(loaded, paths, progress=progress)
    seen = {} if elsewhere else session.seen_speeds(loaded, paths, here.kind)
    made = make_plan(loaded, DataFacts.of(dataset), here, seen=seen)
    if as_json:
        print(json.dumps({**made.as_json(), "resolved": loaded.as_written()}))
        return
    for note in loaded.notes:
        print(f"note: {note}")
    for line in made.lines():
        print(line)
    print("\nresolved study:")
    print(_yaml(loaded))


@app.command()
def prepare(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tokenize a study's data now, so that `sweep run` finds it ready."""
    loaded = _load(study, profile, set_, data, None)
    from sweeps.engine import session
    from sweeps.paths import paths_of
    from sweeps.store.records import DataFacts

    paths = paths_of(loaded.name, out=out)
    with _preparing(as_json) as progress:
        facts = DataFacts.of(session.prepare_data(loaded, paths, progress=progress))
    if as_json:
        print(json.dumps(facts.as_dict()))
        return
    per_token = f", {facts.bytes_per_token:.2f} bytes a token" if facts.bytes_per_token else ""
    print(f"{facts.path}\n{facts.train_tokens:,} training tokens, {facts.val_tokens:,} validation tokens{per_token}")


@app.command()
def status(study: StudyName, out: Out = None, as_json: AsJson = False) -> None:
    """Show how far a study is, also while it runs."""
    from sweeps.analysis.arms import PHASE
    from sweeps.engine import confirm
    from sweeps.terminal import outcome_line
    from sweeps.verdict.as_json import summarize

    located, findings = _findings(study, out)
    results = findings.results
    store = Path(located.url.removeprefix("sqlite:///"))
    report_path = located.paths.report
    shown = summarize(findings, seconds=results.seconds, store=store, report=report_path)
    searching = sum(run.phase != PHASE for run in results.runs)
    planned = max(searching, results.study.baseline_seeds + results.study.trials) + confirm.planned(
        results.runs,
        most=results.study.confirm.max_trials,
        over=lambda: confirm.next_run(findings.evidence) is None,
    )
    if as_json:
        print(json.dumps({**shown, "planned": planned}))
        return
    ended = {outcome: n for outcome, n in shown["trials"].items() if n}
    print(f"{results.study.name}: {sum(ended.values())} of {planned} runs ended ({ended or 'none'})")
    for each in results.runs:
        if each.outcome == Outcome.RUNNING:
            step = each.points[-1].step if each.points else 0
            print(f"  run {each.id} {each.label}: step {step} of {each.config.max_iters}")
    best = results.best
    if best is not None:
        print(f"best: trial {best.trial} ({best.label}): {outcome_line(best)}")


@app.command()
def verdict(study: StudyName, out: Out = None, as_json: AsJson = False) -> None:
    """Say which knob breaks the plateau, by how much and how sure, as far as a study has come."""
    from sweeps.verdict.as_json import verdict_of
    from sweeps.verdict.verdict import verdict as in_words

    _, findings = _findings(study, out)
    if as_json:
        print(json.dumps({"study": findings.study.name, "verdict": verdict_of(findings)}))
        return
    _print(in_words(findings))


@app.command()
def report(
    study: StudyName,
    out: Out = None,
    file: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="where to write it")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report: one HTML file that needs no network."""
    from sweeps.report.publish import page_of
    from trainer.atomic import write_text

    located, findings = _findings(study, out)
    written = (file or located.paths.report).absolute()
    write_text(written, page_of(findings))
    print(json.dumps({"report": str(written)}) if as_json else written)


@app.command()
def export(
    study: StudyName,
    out: Out = None,
    trial: Annotated[int | None, typer.Option(metavar="N", help="another trial than the best")] = None,
    iters: Annotated[int | None, typer.Option(metavar="N", help="length of the real run, iterations")] = None,
    file: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="where to write the config")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="also write a ckpt.pt there that nanoGPT resumes from")
    ] = None,
    ladder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="also write configs of 1, 2 and 4 times the length, three rates each"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="also where the best is not shown to be better")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the best trial (or any) as a nanoGPT config, its evidence in comments."""
    from sweeps.export.nanogpt_config import export_checkpoint, write_config
    from sweeps.export.trial import check_best, export_run, trial_of

    located, findings = _findings(study, out)
    if trial is None and not force:
        check_best(findings)
    chosen = trial_of(findings, trial)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    made = export_run(findings, chosen, date=today, iters=iters)
    rungs = _ladder(findings, chosen, today, ladder) if ladder else []
    written = write_config(made, file.absolute()) if file else None
    saved = export_checkpoint(located.paths.run(chosen.id), made, checkpoint.absolute()) if checkpoint else None
    if as_json:
        found = {"trial": chosen.trial, "config": dict(made.settings), "notes": list(made.notes)}
        paths = {"file": _text(written), "checkpoint": _text(saved)}
        print(json.dumps({**found, **paths, "ladder": rungs, "text": made.text}))
        return
    if rungs:
        print(f"{ladder}: LADDER.txt and {len(rungs)} configs", file=sys.stderr)
    if written is None:
        print(made.text, end="")
    else:
        print(f"{written}: {chosen.label}")
    if saved is not None:
        print(f"{saved}: nanoGPT goes on from it with --init_from=resume --out_dir={saved.parent}", file=sys.stderr)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)


def _ladder(findings: Findings, chosen: Any, today: str, folder: Path) -> list[str]:
    """Write the ladder; the paths of its configs."""
    from sweeps.export.ladder import ladder, write_ladder
    from sweeps.export.trial import evidence

    said = evidence(findings, chosen, date=today)
    made = write_ladder(ladder(findings, chosen), findings.results, folder.absolute(), evidence=said)
    return [str(folder.absolute() / name) for name in made]


@app.command()
def dashboard(
    study: StudyName,
    out: Out = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="where to listen, in a container 0.0.0.0; no password, no host check")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0: any free port")] = 0,
    browser: Annotated[bool, typer.Option(help="open it in the browser, where there is a terminal")] = True,
) -> None:
    """Browse a study with optuna-dashboard on 127.0.0.1, also while it runs."""
    import webbrowser

    from sweeps.report.dashboard import is_private, serve
    from sweeps.store.locate import locate

    def announce(url: str) -> None:
        print(f"{url} (Ctrl-C ends it)", flush=True)
        if browser and sys.stdout.isatty():
            webbrowser.open(url)

    located = locate(study, out=out)
    if not is_private(host):
        print(
            f"warning: whoever can reach {host} can read and change this study: the dashboard has no password and "
            "checks no host",
            file=sys.stderr,
        )
    serve(located.url, host=host, port=port, artifacts=located.paths.artifacts, announce=announce)


@app.command()
def init(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="the study's name; the file is NAME.yaml")
    ] = "my-plateau",
) -> None:
    """Write a commented study to start from."""
    from sweeps.study.authoring import write_study

    print(f"{write_study(name, Path())}: edit it, then `sweep plan {name}.yaml` and `sweep run {name}.yaml`")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study, every key documented."""
    from sweeps.study.authoring import json_schema

    print(json.dumps(json_schema(), indent=2))


def _load(
    study: str,
    profile: str | None,
    overrides: list[str] | None,
    data: str | None,
    baseline: str | None,
    *,
    for_a_card: bool = False,
) -> Study:
    from sweeps.study.load import load
    from trainer.machine.device import cuda_devices

    return load(
        study,
        profile=profile,
        overrides=overrides or (),
        data=data,
        baseline=baseline,
        devices_have_cuda=for_a_card or cuda_devices() > 0,
    )


def _results(study: str, out: Path | None) -> tuple[Any, Results]:
    from sweeps.store.locate import locate
    from sweeps.store.store import Reader

    located = locate(study, out=out)
    with Reader(located.url) as reader:
        return located, reader.results(located.name)


def _findings(study: str, out: Path | None) -> tuple[Any, Findings]:
    from sweeps.analysis.findings import Findings

    located, results = _results(study, out)
    return located, Findings(results)


def _say(as_json: bool) -> Any:
    return lambda text: print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def _view(as_json: bool) -> LiveView | PlainView:
    from rich.console import Console

    from sweeps.terminal import LiveView, PlainView

    console = Console(stderr=as_json)
    return LiveView(console) if console.is_terminal else PlainView(_say(as_json))


def _preparing(as_json: bool) -> AbstractContextManager[Any]:
    from rich.console import Console

    from sweeps.terminal import preparing

    return preparing(Console(stderr=as_json), _say(as_json))


def _yaml(study: Study) -> str:
    import yaml

    return yaml.safe_dump(study.as_written(), sort_keys=False).rstrip()


def _print(verdict: Verdict) -> None:
    print(verdict.text(width=min(120, shutil.get_terminal_size((120, 24)).columns)))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
