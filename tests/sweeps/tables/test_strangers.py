"""Tables as people have them: exports of trackers and spreadsheets are read right, or refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.tables import words
from sweeps.tables.rows import TableError, read_table
from sweeps.tables.ruling import Ruling, rule
from sweeps.tables.runs import runs_of

LOSSES = {"0.001": (3.50, 3.52, 3.49, 3.51), "0.002": (3.40, 3.425, 3.388, 3.41)}
ARMS = ("baseline", "warm")
GAIN = 0.09925
"""of the second rate over the first, over four pairs"""

Cells = Callable[[int, int, str, float], str]
"""a row's text by its number, its seed, its rate and its loss"""


def csv(header: str, cells: Cells, *, end: str = "\n") -> str:
    rows = [(rate, seed, loss) for rate, losses in LOSSES.items() for seed, loss in enumerate(losses, 1)]
    lines = [cells(number, seed, rate, loss) for number, (rate, seed, loss) in enumerate(rows)]
    return end.join([header, *lines]) + end


def name(rate: str) -> str:
    return ARMS[list(LOSSES).index(rate)]


def comma(loss: float) -> str:
    return f"{loss:.4f}".replace(".", ",")


GERMAN = csv("arm;seed;val_loss", lambda _, seed, rate, loss: f"{name(rate)};{seed};{comma(loss)}", end="\r\n")
READ: dict[str, tuple[str | bytes, float]] = {
    "of W&B": (
        csv(
            "Name,State,Notes,User,Tags,Created,Runtime,Sweep,config.learning_rate,config.seed,config.n_embd,"
            "_step,_runtime,_timestamp,_wandb.runtime,train/loss,val/loss,best_val_loss",
            lambda i, seed, rate, loss: (
                f"calm-{i},finished,-,me,,2026-01-0{seed},{3600 + i},,{rate},{seed},384,5000,{3600 + i}.5,17{i},"
                f"{3601 + i},{3 + i / 7},{loss},{loss - 0.1}"
            ),
        ),
        GAIN,
    ),
    "of MLflow's page": (
        csv(
            "Start Time,Duration,Run ID,Name,Source Name,User,Status,learning_rate,seed,val_loss",
            lambda i, seed, rate, loss: f"2026-01-01,1.{i}min,{i}f,owl-{i},train.py,me,FINISHED,{rate},{seed},{loss}",
        ),
        GAIN,
    ),
    "of mlflow.search_runs": (
        csv(
            "run_id,status,artifact_uri,start_time,end_time,metrics.val_loss,params.learning_rate,params.seed,"
            "tags.mlflow.runName,tags.mlflow.source.type",
            lambda i, seed, rate, loss: f"{i}f,FINISHED,file:///{i},1{i},2{i},{loss},{rate},{seed},owl-{i},LOCAL",
        ),
        GAIN,
    ),
    "with the index of pandas": (
        csv(",learning_rate,seed,val_loss", lambda i, seed, rate, loss: f"{i},{rate},{seed},{loss}"),
        GAIN,
    ),
    "with the index of pandas, read and written again": (
        csv("Unnamed: 0,learning_rate,seed,val_loss", lambda i, seed, rate, loss: f"{i},{rate},{seed},{loss}"),
        GAIN,
    ),
    "with decimal commas": (GERMAN, GAIN),
    "of Excel, with its line for the separator": ("sep=;\r\n" + GERMAN, GAIN),
    "of Excel in UTF-16": (GERMAN.replace(";", "\t").encode("utf-16"), GAIN),
    "with units in the header": (
        csv(
            "Run,Seed,Validation loss (nats/token),Time [s]",
            lambda _, seed, rate, loss: f"{name(rate)},{seed},{loss},60",
        ),
        GAIN,
    ),
    "with separators of thousands": (
        csv("arm,seed,val_loss", lambda _, seed, rate, loss: f'{name(rate)},{seed},"{1000 * loss:,.1f}"'),
        1000 * GAIN,
    ),
    "with one name for all runs": (
        csv("config,learning_rate,seed,loss", lambda _, seed, rate, loss: f"gpt2,{rate},{seed},{loss}"),
        GAIN,
    ),
    "with an accuracy beside the loss": (
        csv("arm,seed,accuracy,loss", lambda _, seed, rate, loss: f"{name(rate)},{seed},{1 - loss / 10},{loss}"),
        GAIN,
    ),
}


def judged(path: Path, content: str | bytes) -> Ruling:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return rule(runs_of(read_table(path)), min_effect=0.0)


@pytest.mark.parametrize("kind", READ)
def test_a_table_is_read_with_its_arms_seeds_and_losses(kind: str, tmp_path: Path) -> None:
    content, gain = READ[kind]
    (arm,) = judged(tmp_path / "runs.csv", content).arms
    assert arm.effect is not None
    assert (arm.effect.n, arm.effect.method) == (4, "paired")
    assert arm.effect.mean == pytest.approx(gain)


def arms(column: str, value: Callable[[float], str]) -> str:
    return csv(f"arm,seed,{column}", lambda _, seed, rate, loss: f"{name(rate)},{seed},{value(loss)}")


REFUSED = {
    "accuracy": (arms("val/accuracy", lambda loss: f"{loss / 4}"), "of 'val/accuracy' more is better"),
    "score": (arms("score", lambda loss: f"{loss}"), "add a column `loss` of -score"),
    "negative log loss": (arms("neg_log_loss", lambda loss: f"{-loss}"), "add a column `loss` of -neg_log_loss"),
    "Optuna's value": (
        csv(
            ",number,value,datetime_start,duration,params_learning_rate,params_seed,state",
            lambda i, seed, rate, loss: f"{i},{i},{loss},2026-01-01,0 days,{rate},{seed},COMPLETE",
        ),
        "if lower is better, rename 'value' to loss; if higher is better, add a column `loss` of -value",
    ),
    "percent": (arms("val_loss", lambda loss: f"{loss}%"), "val_loss='3.5%' is no loss"),
    "percent, remedy": (arms("val_loss", lambda loss: f"{loss}%"), "without a unit or %"),
    "means": (arms("val_loss", lambda loss: f"{loss} ± 0.01"), "a row is one run"),
    "a comma that may be either": (arms("val_loss", lambda loss: f'"3,{round(1000 * loss) % 1000:03}"'), "is no loss"),
    "commas beside points": (
        csv("arm;seed;lr;val_loss", lambda _, seed, rate, loss: f"{name(rate)};{seed};{rate};{comma(loss)}"),
        "val_loss='3,5000' is no loss",
    ),
    "the training loss alone": (arms("train_loss", str), "name the loss val_loss, final_loss or loss"),
    "a seed a column": ("arm,s1,s2\nbaseline,3.5,3.6\nwarm,3.4,3.5\n", "give a row a run, such as arm,seed,val_loss"),
    "a run a column": ('"Step","a - val/loss","b - val/loss"\n"0","4","3"\n', "a chart's export has a column a run"),
    "no loss at all": (arms("val_loss", lambda _: ""), "no run has ended with a val_loss"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_may_be_the_wrong_way_round_is_refused_with_what_to_do(kind: str, tmp_path: Path) -> None:
    content, said = REFUSED[kind]
    with pytest.raises(TableError) as error:
        judged(tmp_path / "runs.csv", content)
    assert said in str(error.value)


@pytest.mark.parametrize("nothing", ["", "NA", "N/A", "#N/A", "None", "null", "-"])
def test_a_run_without_a_loss_is_left_out_and_said(nothing: str, tmp_path: Path) -> None:
    """Whether it diverged isn't known: it shows nothing of its arm."""
    text = arms("val_loss", lambda loss: nothing if loss == 3.41 else str(loss))
    ruling = judged(tmp_path / "runs.csv", text)
    assert (ruling.arms[0].runs, ruling.arms[0].diverged) == (3, 0)
    assert "1 run left out, without a val_loss; write nan for a run that diverged" in ruling.table.notes


@pytest.mark.parametrize("broken", ["nan", "NaN", "inf", "-Infinity"])
def test_a_loss_that_is_no_finite_number_has_diverged(broken: str, tmp_path: Path) -> None:
    text = arms("val_loss", lambda loss: broken if loss == 3.41 else str(loss))
    (arm,) = judged(tmp_path / "runs.csv", text).arms
    assert (arm.runs, arm.diverged, words.WORDS[arm.word]) == (4, 1, "worse")


def test_a_run_that_has_not_ended_is_left_out_and_said(tmp_path: Path) -> None:
    text = csv(
        "Name,State,learning_rate,seed,val_loss",
        lambda i, seed, rate, loss: f"r{i},{'crashed' if i == 7 else 'finished'},{rate},{seed},{loss}",
    )
    ruling = judged(tmp_path / "runs.csv", text)
    assert ruling.arms[0].runs == 3
    assert "1 run left out, whose State is crashed" in ruling.table.notes


def test_a_curve_without_any_loss_is_a_run_left_out(tmp_path: Path) -> None:
    curves = csv("arm,seed,step,val_loss", lambda _, seed, rate, loss: f"{name(rate)},{seed},9,{loss}")
    curves += "".join(f"warm,5,{step},\n" for step in range(3)) + "warm,4,5,\n"
    ruling = judged(tmp_path / "runs.csv", curves)
    assert ruling.arms[0].runs == 4
    assert any(note.startswith("1 run left out, without a val_loss") for note in ruling.table.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (arms("loss", lambda loss: f"{-loss}"), "every loss is below 0, and lower still counts as better"),
        ("arm,val_loss,std\na,3.5,0.01\nb,3.4,0.01\n", "'std' may be a spread of several runs"),
        (
            csv("arm,lr,seed,loss", lambda i, seed, rate, loss: f"{name(rate)},{i % 2},{seed},{loss}"),
            "runs of one arm differ in lr, which is passed over",
        ),
        (GERMAN, "decimal commas are read as points"),
    ],
)
def test_what_is_doubtful_is_said(text: str, said: str, tmp_path: Path) -> None:
    assert any(said in note for note in judged(tmp_path / "runs.csv", text).table.notes)
