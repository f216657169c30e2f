"""The command `sweep`: arguments and printing only. Each command imports what it needs when it runs."""

from __future__ import annotations

import datetime
import gc
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps import signals, streams
from sweeps.errors import SpecError
from trainer.errors import UserError

if TYPE_CHECKING:
    from sweeps.analysis.findings import Findings
    from sweeps.outputs import ExportJson, ReportJson, StatusJson
    from sweeps.paths import StudyPaths
    from sweeps.store.locate import Located
    from sweeps.store.records import DataFacts, Results
    from sweeps.study.study import Study


app = typer.Typer(
    name="sweep",
    help="Find out which knob breaks the loss plateau of a small GPT: by how much, how surely, and what to train next.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Begun = Annotated[
    str, typer.Argument(metavar="STUDY", help="the study's YAML file (`sweep init` writes one), or one begun: its name")
]
StudyFile = Annotated[str, typer.Argument(metavar="STUDY.yaml", help="the study; `sweep init` writes one")]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="a study's name, its folder, its .db file, or its YAML file")
]
Profile = Annotated[
    str | None, typer.Option(metavar="NAME", help="profile of the study to use, instead of this machine's")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key: --set knobs.dropout.high=0.5")
]
Data = Annotated[
    str | None, typer.Option(metavar="WHERE", help="data to train on: parquet files, globs, URLs, or a nanoGPT folder")
]
Baseline = Annotated[
    str | None, typer.Option(metavar="FILE.py", help="nanoGPT config to use as the baseline; read as data, never run")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="CKPT", help="checkpoint of the run that plateaued (ckpt.pt or its folder) to start from"
    ),
]
Log = Annotated[str | None, typer.Option(metavar="LOG", help="what nanoGPT printed while --from's run trained")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="folder of the results, instead of runs/<study>")]
NOTHING_SHOWN = 3
"""exit code of `sweep judge` where the runs show nothing"""
Full = Annotated[bool, typer.Option("--full", help="print the whole verdict, with what it rests on")]
AsJson = Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout; the rest goes to stderr")]


def main() -> None:
    """Run the command. Exit codes: 0 success, 1 a bug, 2 the user's mistake, 128 + N ended by signal N (130 Ctrl-C).

    `--debug` shows the traceback of a user's mistake.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    files = streams.outlast()
    try:
        with signals.ending():
            app()
    except SystemExit as ended:
        if not ended.code and (lost := streams.what_was_lost(files)):
            print(f"error: {lost}", file=sys.stderr)
            sys.exit(2)
        raise
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        gc.freeze()  # at its exit, Python would look at every object of the plotting libraries once more, for seconds


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"plateau-sweep {version('plateau-sweep')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def group(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # its callback ends the command
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version")
    ] = False,
    debug: Annotated[  # noqa: ARG001  # `main` takes it out, wherever it stands
        bool, typer.Option("--debug", help="show the traceback of a mistake; any command takes it")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    study: Begun,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    baseline: Baseline = None,
    from_: From = None,
    log: Log = None,
    out: Out = None,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Run a study, or continue it. Ends with the verdict so far and a report.

    A study that has begun goes on by its name alone, with the data, the baseline and the start it was begun with.
    """
    from sweeps.workers.launch import warm_up

    warm_up()
    from sweeps.paths import paths_of
    from sweeps.store.locate import is_file

    if is_file(study):
        loaded = _load(study, profile, set_, data, baseline, start=from_, log=log)
        _sweep(loaded, paths_of(loaded.name, out=out), full=full, as_json=as_json)
        return
    changing = {"--profile": profile, "--set": set_, "--data": data, "--baseline": baseline, "--from": from_}
    if given := [option for option, value in {**changing, "--log": log}.items() if value]:
        raise SpecError(
            f"{', '.join(given)}: a study that goes on by its name stays as it was begun; to change it, name its YAML "
            f"file instead of {study!r}"
        )
    located, results = _results(study, out)
    _sweep(
        results.study.model_copy(update={"store": located.url}),
        located.paths,
        full=full,
        as_json=as_json,
        stored=results,
    )


@app.command()
def confirm(
    study: StudyName,
    out: Out = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, max=32, metavar="N", help="seeds per comparison where fewer don't decide it")
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="further runs of the confirm phase at most; by default as many as the study says"
        ),
    ] = None,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Test what a study has found on more fresh seeds. Ends like `sweep run`; no run is made twice."""
    from sweeps.workers.launch import warm_up

    warm_up()
    from sweeps.engine.confirm import extended

    located, results = _results(study, out)
    changes = {"confirm": extended(results, seeds=seeds, max_trials=max_trials), "store": located.url}
    _sweep(results.study.model_copy(update=changes), located.paths, full=full, as_json=as_json, stored=results)


def _sweep(study: Study, paths: StudyPaths, *, full: bool, as_json: bool, stored: Results | None = None) -> None:
    """Run the study until it ends or pauses, and print the verdict. `stored`: the results of a study that goes on."""
    from rich.console import Console

    from sweeps import api

    say = _say(as_json)
    swept, summary = api.sweep(study, paths, stored=stored, console=Console(stderr=as_json))
    if as_json:
        print(json.dumps(swept.as_json()))
    else:
        print()
        _print(swept.findings, full=full, report=swept.report, store=swept.store)
    if summary.interrupted and swept.unpublished is None:
        say(f"interrupted: {swept.results.command('run')} goes on")
        raise typer.Exit(signals.exit_code(summary.interrupted))
    if summary.truncated:
        say(f"hours: {study.hours:g} are over; raise hours in the study's YAML file and run that to continue")
    if swept.unpublished is not None:
        raise swept.unpublished


@app.command()
def plan(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    baseline: Baseline = None,
    from_: From = None,
    log: Log = None,
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
    as_json: AsJson = False,
) -> None:
    """Show what a study will run and how long that takes. Trains nothing."""
    elsewhere = device is not None or memory is not None or peak is not None
    loaded = _load(study, profile, set_, data, baseline, start=from_, log=log, for_a_card=elsewhere)
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
    with _preparing(as_json) as progress:
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
    print(f"\nresolved study:\n{_yaml(loaded)}")


@app.command()
def prepare(
    study: StudyFile,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tokenize a study's data now. `sweep run` then finds it ready."""
    loaded = _load(study, profile, set_, data, None, for_a_card=profile == "cuda")
    from sweeps.engine import session
    from sweeps.paths import paths_of
    from sweeps.store.records import DataFacts

    paths = paths_of(loaded.name, out=out)
    with _preparing(as_json) as progress:
        facts = DataFacts.of(session.prepare_data(loaded, paths, progress=progress))
    if as_json:
        print(json.dumps(facts.as_dict()))
        return
    for line in _remarks(facts):
        print(line)
    per_token = f", {facts.bytes_per_token:.2f} bytes per token" if facts.bytes_per_token else ""
    print(f"{facts.path}\n{facts.train_tokens:,} training tokens, {facts.val_tokens:,} validation tokens{per_token}")


@app.command()
def status(study: StudyName, out: Out = None, as_json: AsJson = False) -> None:
    """Show the progress of a study, also while it runs."""
    from sweeps.engine.progress import planned_runs
    from sweeps.store.sqlite import is_running, path_of
    from sweeps.terminal import status_lines
    from sweeps.verdict.as_json import summarize

    located, findings = _findings(study, out)
    results, planned = findings.results, planned_runs(findings)
    if as_json:
        store, report_file = path_of(located.url), located.paths.report
        summary = summarize(findings, store=store, report=report_file)
        state: StatusJson = {**summary, "planned": planned}
        print(json.dumps(state))
        return
    for line in status_lines(results, planned=planned, running=is_running(located.url, located.name)):
        print(line)


@app.command()
def verdict(study: StudyName, out: Out = None, full: Full = False, as_json: AsJson = False) -> None:
    """Say which knob breaks the plateau, and how surely. The verdict rests on the runs so far."""
    from sweeps.store.sqlite import path_of
    from sweeps.verdict.as_json import found

    located, findings = _findings(study, out)
    if as_json:
        print(json.dumps(found(findings)))
    else:
        _print(findings, full=full, report=located.paths.report, store=path_of(located.url))


@app.command()
def report(
    study: StudyName,
    out: Out = None,
    file: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="file to write the report to")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report: one HTML file that needs no network."""
    from sweeps.report.publish import page_of
    from trainer.atomic import write_text

    located, findings = _findings(study, out)
    report_file = (file or located.paths.report).absolute()
    write_text(report_file, page_of(findings))
    written: ReportJson = {"report": str(report_file)}
    print(json.dumps(written) if as_json else report_file)


@app.command()
def export(
    study: StudyName,
    out: Out = None,
    trial: Annotated[int | None, typer.Option(metavar="N", help="trial to export, instead of the best")] = None,
    race: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE", help="race to export, from scratch: --race n_embd=768")
    ] = None,
    iters: Annotated[int | None, typer.Option(metavar="N", help="length of the real run, iterations")] = None,
    file: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="file to write the config to")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="also write a ckpt.pt there to resume from; a branch needs it")
    ] = None,
    trained: Annotated[
        bool, typer.Option("--trained", help="write the end of the branch to --checkpoint, not its start")
    ] = False,
    ladder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="also write configs of 1, 2 and 4 times the length, three rates each"),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="take over all that the best trial changes, not only what is shown")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="export the best even if it is not shown to be better")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write your config, changed in what the best trial shows, for nanoGPT. Comments hold the evidence."""
    from sweeps.export.branch import is_branch
    from sweeps.export.checkpoint import write_checkpoint
    from sweeps.export.nanogpt_config import write_config
    from sweeps.export.race import export_race, race_of
    from sweeps.export.trial import check_best, check_options, export_ladder, export_run, trial_of

    check_options(race=race, trial=trial, checkpoint=checkpoint, ladder=ladder, trained=trained)
    located, findings = _findings(study, out)
    if trial is None and race is None and not force:
        check_best(findings, whole=all_)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    folder = checkpoint.absolute() if checkpoint else None
    if race is not None:
        runs = race_of(findings, race)
        run, config = runs[0], export_race(findings, runs, date=today, iters=iters)
    else:
        whole = all_ or trial is not None
        run = trial_of(findings, trial, whole=whole)
        config = export_run(findings, run, date=today, iters=iters, checkpoint=folder, trained=trained, whole=whole)
    rungs = export_ladder(findings, run, ladder.absolute(), date=today) if ladder else []
    config_file = write_config(config, file.absolute()) if file else None
    checkpoint_file = (
        write_checkpoint(findings.study, run, located.paths, config, folder, trained=trained) if folder else None
    )
    if as_json:
        exported: ExportJson = {
            "trial": run.trial if race is None else None,
            "race": race,
            "config": dict(config.settings),
            "changed": {key: list(pair) for key, pair in config.changed.items()},
            "why": dict(config.why),
            "kept": dict(config.kept),
            "notes": list(config.notes),
            "file": _text(config_file),
            "checkpoint": _text(checkpoint_file),
            "ladder": [*map(str, rungs)],
            "text": config.text,
        }
        print(json.dumps(exported))
        return
    if rungs:
        print(f"{ladder}: LADDER.txt and {len(rungs)} configs", file=sys.stderr)
    print(config.text if config_file is None else f"{config_file}: changes {', '.join(config.changed)}\n", end="")
    if checkpoint_file is not None:
        options = "this config" if is_branch(run) else f"--init_from=resume --out_dir={checkpoint_file.parent}"
        print(f"{checkpoint_file}: nanoGPT resumes from it with {options}", file=sys.stderr)
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)


@app.command()
def judge(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="runs of any trainer: .csv, .tsv, .jsonl or .parquet, a row a run")
    ],
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="arm that the others are compared with, instead of `baseline`")
    ] = None,
    min_effect: Annotated[
        float, typer.Option(min=0, metavar="X", help="what a gain must exceed to count, in the table's unit")
    ] = 0.02,
    as_json: AsJson = False,
) -> None:
    """Say which changes in a table of runs are real. Exit code 3: nothing is shown."""
    from sweeps.tables import as_json as tables_json
    from sweeps.tables import keep_words, words
    from sweeps.tables.keeps import is_keep_log, keep_log
    from sweeps.tables.rows import read_table
    from sweeps.tables.ruling import rule
    from sweeps.tables.runs import runs_of

    rows = read_table(table)
    if is_keep_log(rows):
        log = keep_log(rows)
        decides, lines, as_object = bool(log.standing), keep_words.lines(log), tables_json.of_keep_log(log)
    else:
        ruling = rule(runs_of(rows, baseline=baseline), min_effect=min_effect)
        decides, lines, as_object = ruling.decides, words.lines(ruling), tables_json.of_ruling(ruling)
    print(json.dumps(as_object) if as_json else "\n".join(_wrapped(lines)))
    if not decides:
        raise typer.Exit(NOTHING_SHOWN)


@app.command()
def dashboard(
    study: StudyName,
    out: Out = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="address to serve on, 0.0.0.0 in a container; the dashboard has no password"
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="port to serve on; 0 is any free port")] = 0,
    browser: Annotated[bool, typer.Option(help="open the browser, when run on a terminal")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the address as a JSON object, then serve")] = False,
) -> None:
    """Browse a study with optuna-dashboard, also while it runs. Serves 127.0.0.1, or the address of --host."""
    import webbrowser

    from sweeps.report.dashboard import is_private, serve
    from sweeps.store.locate import locate

    def announce(url: str) -> None:
        print(json.dumps({"url": url}) if as_json else f"{url} (Ctrl-C ends it)", flush=True)
        if browser and sys.stdout.isatty():
            webbrowser.open(url)

    located = locate(study, out=out)
    if not is_private(host):
        print(
            f"warning: whoever can reach {host} can read this study: the dashboard has no password",
            file=sys.stderr,
        )
    serve(located.url, host=host, port=port, artifacts=located.paths.artifacts, announce=announce)


@app.command()
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the study's name; the file is NAME.yaml")] = "my-plateau",
    from_: From = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented study to start from. With --from, it is around your checkpoint."""
    from sweeps.study.authoring import write_study

    written = write_study(name, Path(), checkpoint=from_, log=log)
    if as_json:
        print(json.dumps({"study": name, "file": str(written.absolute())}))
    else:
        print(f"{written}: edit it, then `sweep plan {name}.yaml` and `sweep run {name}.yaml`")


@app.command()
def schema(as_json: Annotated[bool, typer.Option("--json", help="print it on one line")] = False) -> None:
    """Print the JSON Schema of a study, with every key documented."""
    from sweeps.study.authoring import json_schema

    print(json.dumps(json_schema(), indent=None if as_json else 2))


def _load(
    study: str,
    profile: str | None,
    overrides: list[str] | None,
    data: str | None,
    baseline: str | None,
    *,
    start: str | None = None,
    log: str | None = None,
    for_a_card: bool = False,
) -> Study:
    from sweeps.study.load import check_card, load
    from trainer.machine.device import cuda_devices

    loaded = load(
        study,
        profile=profile,
        overrides=overrides or (),
        data=data,
        baseline=baseline,
        start=start,
        log=log,
        devices_have_cuda=for_a_card or cuda_devices() > 0,
    )
    if not for_a_card:
        check_card(loaded, study, profile=profile, cards=cuda_devices())
    return loaded


def _results(study: str, out: Path | None) -> tuple[Located, Results]:
    from sweeps.store.locate import read

    return read(study, out=out)


def _findings(study: str, out: Path | None) -> tuple[Located, Findings]:
    from sweeps.analysis.findings import Findings

    located, results = _results(study, out)
    return located, Findings(results)


def _remarks(data: DataFacts) -> list[str]:
    return [*(f"note: {note}" for note in data.notes), *(f"warning: {warning}" for warning in data.warnings)]


def _say(as_json: bool) -> Callable[[str], None]:
    return lambda text: print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def _preparing(as_json: bool) -> AbstractContextManager[Any]:
    from rich.console import Console

    from sweeps.terminal import preparing

    return preparing(Console(stderr=as_json), _say(as_json))


def _yaml(study: Study) -> str:
    import yaml

    return yaml.safe_dump(study.as_written(), sort_keys=False).rstrip()


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    width = max(60, min(120, shutil.get_terminal_size((120, 24)).columns))
    for line in lines:
        yield from textwrap.wrap(line, width, subsequent_indent="  ", drop_whitespace=False) or [""]


def _print(findings: Findings, *, full: bool, report: Path, store: Path) -> None:
    """Print the answer, or the whole verdict, and where report and store are."""
    from sweeps.text import encodable
    from sweeps.verdict.screen import last_screen
    from sweeps.verdict.verdict import verdict

    width, encoding = shutil.get_terminal_size((80, 24)).columns, sys.stdout.encoding or "ascii"
    files = {"report": str(report) if report.exists() else findings.results.command("report"), "store": str(store)}
    if full:
        text = "\n\n".join([verdict(findings).text(width=min(120, width)), *map(": ".join, files.items())])
    else:
        text = "\n".join(last_screen(findings, width=width, files=files, encoding=encoding))
    print(encodable(text, encoding))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
