"""Broken studies: the exact message of each, as in docs/reference/errors.md, and that none gets a traceback."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.study.baseline import NAMES
from sweeps.study.knobs import KNOBS
from sweeps.study.load import load
from sweeps.study.messages import TOP
from sweeps.study.study import Study
from tests.helpers.study_files import TEXT, write
from trainer import strict_yaml
from trainer.errors import UserError

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"
HEADER = "| instead of | the file has | message |"

BROKEN = [
    # text in the file, its replacement, the message
    ("name: small", "nam: small", "1: nam: unknown key 'nam'; did you mean name?"),
    ("name: small", "name: my sweep", "1: name: 'my sweep' can't name a study and its folder; use 1 to 64 "
     "letters, digits, '.', '_' or '-', starting with a letter or digit"),
    ("name: small", "name: 2026", "1: name: 2026 is not text; write it in quotes: '2026'"),
    ("name: small", "name: a-confirm", "1: name: 'a-confirm' ends in -confirm, which is reserved for the "
     "confirm phase; choose another name"),
    ("name: small\n", "", "1: name is missing"),
    ("name: small", "name: small\nname: large", "2: the key 'name' appears twice, first at line 1; keep one"),
    ("name: small", "name: small\nlearning_rate: 1e-3", "2: learning_rate: unknown key 'learning_rate'; it belongs to "
     "the baseline: baseline.learning_rate"),
    ("{source: embedded}", "embedded", "2: data: data is {source: embedded}, {parquet: FILES} or {bin: FOLDER}"),
    ("{source: embedded}", "{source: fineweb}", "2: data.source: 'fineweb' is not embedded"),
    ("{source: embedded}", "{parquet: a.parquet, bin: data}", "2: data.bin: bin can't be combined with parquet; "
     "drop one"),
    ("{source: embedded}", "{parquet: []}", "2: data.parquet: [] is not a path, glob, folder or URL, or a list "
     "of these"),
    ("{source: embedded}", "{source: embedded, val_fraction: 5}", "2: data.val_fraction: 5 must be at most 0.5"),
    ("{type: bytes}", "gpt2", "3: tokenizer: 'gpt2' is not a mapping; write {type: gpt2}"),
    ("{type: bytes}", "{type: gpt3}", "3: tokenizer.type: 'gpt3' is not one of gpt2, bpe, bytes; did you mean gpt2?"),
    ("{type: bytes}", "{type: bpe}", "3: tokenizer: vocab_size is missing"),
    ("{type: bytes}", "{vocab_size: 512}", "3: tokenizer: needs a type: gpt2, bpe, bytes"),
    ("n_layer: 2", "n_layers: 2", "5: baseline.n_layers: unknown key 'n_layers'; did you mean n_layer?"),
    ("n_layer: 2", "n_layer: 2.0", "5: baseline.n_layer: 2.0 is not a whole number; write 2"),
    ("n_layer: 2", "n_layer: '2'", "5: baseline.n_layer: '2' is not a whole number; write 2"),
    ("n_layer: 2", "n_layer: 0", "5: baseline.n_layer: 0 must be at least 1"),
    ("n_layer: 2", "bias: no", "5: baseline.bias: 'no' is neither true nor false; write false"),
    ("n_layer: 2", "seed: 1", "5: baseline.seed: seed can't be set in a baseline: the study sets the seeds: see "
     "seed and baseline_seeds"),
    ("n_layer: 2", "device: cuda", "5: baseline.device: device can't be set in a baseline: devices are set by "
     "workers.devices"),
    ("n_layer: 2", "origin: abc", "5: baseline.origin: origin can't be set in a baseline: start names the checkpoint "
     "that trials go on from"),
    ("n_layer: 2", "dtype: bf16", "5: baseline.dtype: 'bf16' is not one of float32, bfloat16, float16; did you "
     "mean bfloat16?"),
    ("n_layer: 2", "n_head: 4", "5: baseline.n_head: head_size already sets the number of heads (n_embd / head_size); "
     "drop n_head"),
    ("n_embd: 64", "n_embd: 72", "6: baseline.n_embd: n_embd=72 is not divisible by head_size=16; nearest widths: 64 "
     "and 80"),
    ("learning_rate: 1e-3", "learning_rate: .nan", "9: baseline.learning_rate: nan is not a finite number"),
    ("min_lr: 1e-4", "min_lr: 1e-2", "10: baseline.min_lr: min_lr=0.01 is above learning_rate=0.001: the rate would "
     "rise; set min_lr to 0.0001 (a tenth) or less"),
    ("max_iters: 2000", "max_iters: 20_000", "13: baseline.max_iters: '20_000' is not a whole number; write 20000"),
    ("dropout: 0.1", "dropout: 0.5", "22: knobs.dropout: the baseline's dropout = 0.5 is not among the knob's values "
     "(0 to 0.3); add it to the knob or change the baseline"),
    ("dropout: 0.1", "decay_lr: false", "20: knobs.min_lr: has no effect while baseline.decay_lr is false; set "
     "decay_lr to true or drop the knob"),
    ("{iters: 600}", "{iters: 600}\npilot: {max_iters: 300}", "18: pilot.max_iters: 300 is below the horizon of 600 "
     "iterations, where the pilot begins; raise it or lower the horizon"),
    ("{iters: 600}", "{minutes: 5}\npilot: {max_iters: 4800}", "18: pilot: a horizon in minutes leaves the length of "
     "trials to the clock; for a pilot write horizon: {iters: 600} or {tokens: 50000000}, the shortest length to try"),
    ("{iters: 600}", "{iters: 600}\npilot: {max_iters: 4800}\nstart: {train: {max_iters: 3000}}", "18: pilot: a pilot "
     "finds the length of trials from scratch, and from a checkpoint seeds differ by thousandths of a nat; drop it"),
    ("{iters: 600}", "{iters: 600}\npilot: {effect: 0.1}", "18: pilot: max_iters is missing"),
    ("{iters: 600}", "{iters: 600}\npilot: 4800", "18: pilot: 4800 is not a mapping (key: value)"),
    ("{iters: 600}", "{iters: 600}\npilot: {max_iter: 4800}", "18: pilot.max_iter: unknown key 'max_iter'; did you "
     "mean max_iters?"),
    ("{iters: 600}", "{iters: 600}\npilot: {max_iters: 4800}\nbaseline_seeds: 2", "19: baseline_seeds: 2 is too few "
     "with a pilot, whose 3 seeds become the baseline's; write baseline_seeds: 3 or more"),
    ("{iters: 600}", "{iters: 600}\nchosen: {tried: []}", "18: chosen: unknown key 'chosen'; the pilot chooses the "
     "length of trials"),
    ("{iters: 600}", "{iters: 5}", "17: horizon.iters: 5 must be at least 10"),
    ("{iters: 600}", "{iters: 6e2}", "17: horizon.iters: 600.0 is not a whole number; write 600"),
    ("{iters: 600}", "{tokens: 4096}", "17: horizon.tokens: 4096 tokens are 8 iterations of 512; at least 10 are "
     "needed: 5120 tokens"),
    ("{iters: 600}", "600", "17: horizon: horizon is {iters: 600}, {tokens: 50000000} or {minutes: 5}"),
    ("{iters: 600}", "{minutes: 0}", "17: horizon.minutes: 0 must be above 0"),
    ("{iters: 600}", "{minutes: 5m}", "17: horizon.minutes: '5m' is not a number"),
    ("{iters: 600}", "{iters: 600, minutes: 5}", "17: horizon.minutes: minutes can't be combined with iters; drop one"),
    ("{iters: 600}", "{tokens: 500000, equal: time}", "17: horizon.equal: equal can't be combined with tokens; "
     "drop one"),
    ("{iters: 600}", "{minutes: 5, equal: epochs}", "17: horizon.equal: 'epochs' is not one of tokens, flops, time"),
    ("{iters: 600}", "{minutes: 5, speed: 1e4}", "17: horizon.speed: unknown key 'speed'; the keys are minutes, equal"),
    ("{iters: 600}", "{minutes: 5, fit: {iters: 9}}", "17: horizon.fit: unknown key 'fit'; `sweep run` measures it"),
    ("{iters: 600}", "{iters: 600}\nevaluations: 10", "18: evaluations: 10 must be at least 20"),
    ("  dropout: {low: 0.0,", "  n_head: {low: 1,", "22: knobs.n_head: n_head can't be swept; the knobs are "
     + ", ".join(KNOBS)),
    ("  dropout: {low: 0.0,", "  droput: {low: 0.0,", "22: knobs.droput: unknown key 'droput'; did you mean dropout?"),
    ("{low: 0.0, high: 0.3}\n  n", "0.3\n  n", "22: knobs.dropout: a knob is {low: 0, high: 0.3} or {choices: [4, 8]}"),
    ("{low: 0.0, high: 0.3}\n  n", "{low: 0.3, high: 0.0}\n  n", "22: knobs.dropout.low: low=0.3 must be below high=0"),
    ("{low: 0.0, high: 0.3}\n  n", "{low: 0.0}\n  n", "22: knobs.dropout: high is missing"),
    ("{low: 0.0, high: 0.3}\n  n", "{low: 0.0, high: 1.5}\n  n", "22: knobs.dropout.high: dropout=1.5 must be below 1 "
     "(dropout probability)"),
    ("{low: 0.0, high: 0.3}\n  n", "{low: 0.0, high: '0.3'}\n  n", "22: knobs.dropout.high: '0.3' is not a number; "
     "write 0.3"),
    ("{low: 0.0, high: 0.3}\n  n", "{low: 0.0, high: 0.3, log: true}\n  n", "22: knobs.dropout.low: low=0 must be "
     "above 0 on a log scale; raise it or drop log"),
    ("{low: 0.0, high: 0.3}\n  n", "{low: 0.0, high: 0.3, step: 0.2}\n  n", "22: knobs.dropout.high: high=0.3 is not "
     "low plus a multiple of step=0.2; nearest: 0.2 and 0.4"),
    ("{low: 0.0, high: 0.3}\n  n", "{choices: [0.1]}\n  n", "22: knobs.dropout.choices: needs at least two "
     "values"),
    ("{low: 0.0, high: 0.3}\n  n", "{choices: [0.1, 0.1]}\n  n", "22: knobs.dropout.choices.1: 0.1 is listed "
     "twice; keep one"),
    ("{low: 0.0, high: 0.3}\n  n", "{choices: [0.1, 0.2], low: 0}\n  n", "22: knobs.dropout.low: low can't be combined "
     "with choices; drop one"),
    ("  dropout: {low: 0.0, high: 0.3}", "  data_fraction: {choices: [0, 1]}", "22: knobs.data_fraction.choices: "
     "data_fraction=0.0 must be above 0 (share of the training data to train on, a fixed set of documents; not in "
     "nanoGPT)"),
    ("  dropout: {low: 0.0, high: 0.3}", "  data_fraction: {choices: [1, 1.5]}", "22: knobs.data_fraction.choices: "
     "data_fraction=1.5 must be at most 1 (share of the training data to train on, a fixed set of documents; not in "
     "nanoGPT)"),
    ("  dropout: {low: 0.0, high: 0.3}", "  data_fraction: {low: 0.25, high: 1}", "22: knobs.data_fraction: is "
     "not sampled but tried at each of its values; write choices: [0.25, 0.5, 1.0]"),
    ("n_layer: 2", "data_fraction: 0", "5: baseline.data_fraction: 0 must be above 0"),
    ("{ratio_of: learning_rate, low", "{low", "20: knobs.min_lr: is swept as a share of learning_rate, from 0 to 1: "
     "add ratio_of: learning_rate"),
    ("high: 0.2}", "high: 1.2}", "21: knobs.warmup_iters.high: 1.2 is not a share of max_iters; use 0 to 1"),
    ("lr_decay_iters: 2000", "lr_decay_iters: 200", "21: knobs.warmup_iters.high: 0.2 must be below 0.1, where the "
     "baseline's decay ends (lr_decay_iters / max_iters)"),
    ("step: 16", "step: 24", "23: knobs.n_embd: the width 56 is not divisible by head_size=16; use multiples of 16 "
     "(low, high and step) or round: true"),
    ("step: 16", "step: 16.5", "23: knobs.n_embd.high: high=128 is not low plus a multiple of step=16.5; nearest: "
     "114.5 and 131"),
    ("{warmup_iters: 200}", "{warmup_iters: 2000}", "26: candidates.1.warmup_iters: warmup_iters=2000 must be below "
     "lr_decay_iters=2000, or the rate never decays; lower warmup_iters or set decay_lr to false"),
    ("{warmup_iters: 200}", "{max_iters: 4000}", "26: candidates.1.max_iters: max_iters can't be set in a candidate: "
     "all trials have the length that horizon sets; for a longer decay use lr_decay_iters"),
    ("{warmup_iters: 200}", "{warmup_iters: 50}", "26: candidates.1: is the same trial as the baseline; drop it"),
    ("{warmup_iters: 200}", "warmup_iters", "26: candidates.1: 'warmup_iters' is not a mapping (key: value)"),
    ("candidates:", "trials: 0\ncandidates:", "24: trials: 0 must be at least 1"),
    ("candidates:", "hours: 8h\ncandidates:", "24: hours: '8h' is not a number"),
    ("candidates:", "sampler: {type: bayes}\ncandidates:", "24: sampler.type: 'bayes' is not one of tpe, random, qmc, "
     "gp, cmaes"),
    ("candidates:", "pruner: {type: median, warmup: 25}\ncandidates:", "24: pruner.warmup: 25 must be below 1"),
    ("candidates:", "pruner: plateau\ncandidates:", "24: pruner: 'plateau' is not a mapping; write {type: plateau}"),
    ("candidates:", "pruner: {type: platau}\ncandidates:", "24: pruner.type: 'platau' is not one of plateau, median, "
     "hyperband, none; did you mean plateau?"),
    ("candidates:", "pruner: {epsilon: 0.05}\ncandidates:", "24: pruner: needs a type: plateau, median, hyperband, "
     "none"),
    ("candidates:", "pruner: {type: plateau, epsilon: 1%}\ncandidates:", "24: pruner.epsilon: '1%' is not a number"),
    ("candidates:", "pruner: {type: plateau, epsilon: 0}\ncandidates:", "24: pruner.epsilon: 0 must be above 0"),
    ("candidates:", "pruner: {type: plateau, epsilon: 0.99}\ncandidates:", "24: pruner.epsilon: 0.99 must be at most "
     "0.5"),
    ("candidates:", "pruner: {type: plateau, margin: -0.1}\ncandidates:", "24: pruner.margin: -0.1 must be at least 0"),
    ("candidates:", "pruner: {type: plateau, margin: 11}\ncandidates:", "24: pruner.margin: 11 must be at most 10"),
    ("candidates:", "pruner: {type: plateau, looks: 0.1}\ncandidates:", "24: pruner.looks: 0.1 is not two shares of "
     "the horizon such as [0.1, 0.8]"),
    ("candidates:", "pruner: {type: plateau, looks: [0.1]}\ncandidates:", "24: pruner.looks: [0.1] is not two shares "
     "of the horizon such as [0.1, 0.8]"),
    ("candidates:", "pruner: {type: plateau, looks: [10, 80]}\ncandidates:", "24: pruner.looks.0: 10 must be below 1"),
    ("candidates:", "pruner: {type: plateau, looks: [0.1, 1.0]}\ncandidates:", "24: pruner.looks.1: 1 must be below 1"),
    ("candidates:", "pruner: {type: plateau, looks: [0.1, '0.8']}\ncandidates:", "24: pruner.looks.1: '0.8' is not a "
     "number; write 0.8"),
    ("candidates:", "pruner: {type: plateau, looks: [0.8, 0.1]}\ncandidates:", "24: pruner.looks: the first share, "
     "0.8, must be below the last, 0.1"),
    ("candidates:", "pruner: {type: plateau, min_completed: 1}\ncandidates:", "24: pruner.min_completed: 1 must be at "
     "least 2"),
    ("candidates:", "pruner: {type: plateau, min_completed: 5.0}\ncandidates:", "24: pruner.min_completed: 5.0 is not "
     "a whole number; write 5"),
    ("candidates:", "pruner: {type: plateau, sentinel: 10}\ncandidates:", "24: pruner.sentinel: 10 must be at most 1"),
    ("candidates:", "pruner: {type: plateau, sentinels: 0.1}\ncandidates:", "24: pruner.sentinels: unknown key "
     "'sentinels'; did you mean sentinel?"),
    ("candidates:", "pruner: {type: plateau, startup_trials: 5}\ncandidates:", "24: pruner.startup_trials: unknown key "
     "'startup_trials'; the keys are type, epsilon, margin, looks, min_completed, sentinel"),
    ("candidates:", "store: study.db\ncandidates:", "24: store: 'study.db' is not a SQLite URL such as "
     "sqlite:///runs/plateau/study.db"),
    ("candidates:", "workers: {devices: [gpu]}\ncandidates:", "24: workers.devices.0: 'gpu' is not one of cpu, "
     "cuda, cuda:0, cuda:1, ..."),
    ("candidates:", "workers: {ray: 'ray://head:10001'}\ncandidates:", "24: workers.ray: 'ray://head:10001' is an "
     "address of Ray's client; run this command on a machine of the cluster, with auto"),
    ("candidates:", "workers: {ray: local}\ncandidates:", "24: workers.ray: 'local' is neither auto (the cluster that "
     "runs on this machine) nor HOST:PORT such as 10.0.0.1:6379"),
    ("candidates:", "workers: {gpus: 2}\ncandidates:", "24: workers.gpus: counts workers of a Ray cluster; add ray: "
     "auto, or list devices instead"),
    ("candidates:", "workers: {ray: auto, devices: [cpu]}\ncandidates:", "24: workers.devices: names devices of this "
     "machine, and ray has those of a cluster; use gpus or cpus"),
    ("candidates:", "workers: {ray: auto, gpus: 0}\ncandidates:", "24: workers.gpus: 0 must be at least 1"),
    ("candidates:", "workers: {ray: auto, gpus: 1, cpus: 1}\ncandidates:", "24: workers.cpus: a study's workers are on "
     "cards or on CPUs, because a seed ends elsewhere there; drop one"),
    ("candidates:", "\tcandidates:", "24: YAML is not indented with tabs; use spaces"),
]  # fmt: skip
"""Changes of the study in study_files.py, and the message after `study.yaml:`."""


@pytest.mark.parametrize(("text", "replacement", "message"), BROKEN, ids=[message[:60] for *_, message in BROKEN])
def test_broken_studies(tmp_path: Path, text: str, replacement: str, message: str) -> None:
    assert TEXT.count(text) == 1
    path = write(tmp_path, TEXT.replace(text, replacement))
    with pytest.raises(UserError) as error:
        load(path, devices_have_cuda=False)
    assert str(error.value) == f"{path}:{message}"


def _cell(text: str) -> str:
    shown = re.sub(r"\s*\n\s*", " ⏎ ", text.removesuffix("\n  n").strip())
    return f"`{shown.replace('|', chr(92) + '|')}`" if shown else "(nothing)"


def table() -> str:
    """Return the broken studies as a table in Markdown."""
    rows = [
        f"| {_cell(text)} | {_cell(replacement)} | {_cell('study.yaml:' + message)} |"
        for text, replacement, message in BROKEN
    ]
    return "\n".join([HEADER, "|---|---|---|", *rows]) + "\n"


def test_the_documentation_has_this_table() -> None:
    """`python -m tests.sweeps.study.test_broken_inputs` writes it."""
    document = DOCUMENT.read_text(encoding="utf-8")
    assert table() in document
    assert html.unescape(document) == document


# --- anything else: a Study or a UserError ------------------------------------------------------------------

WORDS = st.sampled_from(
    [*TOP, *NAMES, *KNOBS, "low", "high", "log", "step", "round", "choices", "ratio_of", "fraction_of", "head_size",
     "type", "source", "parquet", "bin", "iters", "tokens", "minutes", "equal", "fit", "devices", "file",
     "<<", "notes", "cpu", ""]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-3, 3000)
    | st.floats()
    | st.floats(-1, 2)
    | st.sampled_from(["learning_rate", "max_iters", "auto", "embedded", "tpe", "median", "none", "bpe", "gpt2", "a"])
    | WORDS
    | st.text(max_size=8)
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=8
)
GOOD: dict[str, Any] = strict_yaml.load(
    TEXT + "profiles: {cpu: {trials: 9, knobs: {dropout: {high: 0.5}}}}", name="x"
).value


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, child in items for inner in _paths(child, (*path, key)))]


PATHS = _paths(GOOD)[1:]


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the valid study with a few values replaced, removed or added."""
    document = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(PATHS))
        holder: Any = document
        for part in above:
            holder = holder[part] if _has(holder, part) else None
        if not isinstance(holder, dict | list):
            continue
        if isinstance(holder, dict):
            match draw(st.sampled_from(["replace", "remove", "add"])):
                case "replace":
                    holder[last] = draw(TREES)
                case "remove":
                    holder.pop(last, None)
                case _:
                    holder[draw(WORDS)] = draw(TREES)
        elif _has(holder, last):
            holder[int(last)] = draw(TREES)
    return document


def _has(holder: Any, part: str | int) -> bool:
    if isinstance(holder, dict):
        return part in holder
    return isinstance(holder, list) and isinstance(part, int) and part < len(holder)


def _loads_or_says_why(folder: Path, text: str, *overrides: str) -> bool:
    path = write(folder, text)
    try:
        study = load(path, overrides=overrides, devices_have_cuda=False)
    except UserError as error:
        message = str(error)
    else:
        assert isinstance(study, Study)
        assert Study.model_validate_json(study.model_dump_json()) == study
        return True
    assert "\n" not in message
    assert "Input should" not in message  # pydantic's words
    return False


QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@given(text=st.text(max_size=120) | st.text("abk:{}[],&*!-'\"#\n 01.e", max_size=120))
@settings(QUICK, max_examples=60)
def test_no_text_makes_a_traceback(tmp_path: Path, text: str) -> None:
    assert not _loads_or_says_why(tmp_path, text.encode("utf-8", "replace").decode("utf-8"))


@given(document=TREES)
@settings(QUICK, max_examples=60)
def test_no_document_makes_a_traceback(tmp_path: Path, document: Any) -> None:
    assert not _loads_or_says_why(tmp_path, yaml.safe_dump(document))


@given(document=mutations())
@settings(QUICK, max_examples=200)
def test_no_mutation_makes_a_traceback(tmp_path: Path, document: dict[str, Any]) -> None:
    _loads_or_says_why(tmp_path, yaml.safe_dump(document, sort_keys=False))


@given(path=st.sampled_from(PATHS), value=SCALARS, more=st.lists(st.text("abk.=0123", max_size=12), max_size=2))
@settings(QUICK, max_examples=60)
def test_no_override_makes_a_traceback(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, more: list[str]
) -> None:
    dotted = ".".join(str(part) for part in path)
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    _loads_or_says_why(tmp_path, TEXT, f"{dotted}={text}", *more)


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    start = text.index("| instead of |")
    DOCUMENT.write_text(text[:start] + table(), encoding="utf-8")
