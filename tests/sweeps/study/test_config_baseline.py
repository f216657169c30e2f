"""A baseline from the command line: nanoGPT's config read, its data set found, and the study fitted to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SpecError
from sweeps.study.baseline import with_heads
from sweeps.study.knobs import ChoicesKnob, RangeKnob
from sweeps.study.load import load
from sweeps.study.sections import BinData, EmbeddedData, ParquetData
from sweeps.study.study import OF_THE_CONTROL, Study
from sweeps.study.widening import widened
from tests.helpers.nanogpt_configs import NANOGPT, USERS, write_config, write_data
from tests.helpers.study_files import TEXT, small, write
from trainer.errors import UserError
from trainer.nanogpt import DEFAULTS

ROOT = Path(__file__).parents[3]


def fitted(folder: Path, *sets: str, text: str = TEXT, **options: Any) -> Study:
    """Load the small study on the embedded corpus, as it says explicitly, around another baseline."""
    return small(folder, "data.source=embedded", *sets, text=text, **options)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train_mine.py"
    path.write_text(text, encoding="utf-8")
    return path


MINE = """\
out_dir = 'out'
wandb_log = True
device = 'mps'
n_layer = 4
n_head = 4
n_embd = 64
learning_rate = 1e-3
min_lr = 1e-4
max_iters = 4000
lr_decay_iters = 4000
warmup_iters = 100
batch_size = 8
"""


def test_a_baseline_replaces_the_studys_wholly(tmp_path: Path) -> None:
    study = fitted(tmp_path, baseline=config(tmp_path, MINE))
    assert study.baseline["n_layer"] == 4
    assert study.baseline["head_size"] == 16
    assert study.baseline["gradient_accumulation_steps"] == 40  # nanoGPT's, not the study's 2
    assert study.baseline["dropout"] == 0.0
    assert study.baseline["block_size"] == 1024
    assert study.iters == 600
    assert study.notes == ()


def test_overrides_lie_on_top_of_a_baseline(tmp_path: Path) -> None:
    study = fitted(tmp_path, "baseline.dropout=0.25", baseline=config(tmp_path, MINE))
    assert study.baseline["dropout"] == 0.25


def test_ranges_are_widened_to_hold_a_new_baseline(tmp_path: Path) -> None:
    mine = MINE.replace("n_embd = 64", "n_embd = 192") + "dropout = 0.4\nlearning_rate = 1e-2\n"
    path = config(tmp_path, mine)
    study = fitted(tmp_path, baseline=path)
    assert study.baseline["head_size"] == 48
    assert study.knobs["n_embd"] == RangeKnob(low=96, high=384, step=48)  # 0.5 to 2 times, as in the file
    assert study.knobs["dropout"] == RangeKnob(low=0.0, high=0.55)
    assert study.knobs["learning_rate"] == RangeKnob(low=1e-4, high=3e-2, log=True)
    assert study.notes == (
        f"knobs.learning_rate: 0.0001 to 0.03 instead of 0.0001 to 0.006, to reach beyond the value of {path}, 0.01",
        f"knobs.dropout: 0 to 0.55 instead of 0 to 0.3, to reach beyond the value of {path}, 0.4",
        f"knobs.n_embd: 96 to 384 in steps of 48 instead of 32 to 128 in steps of 16, to reach beyond the value of "
        f"{path}, 192",
    )


def test_candidates_that_a_new_baseline_has_already_are_left_out(tmp_path: Path) -> None:
    path = config(tmp_path, MINE.replace("warmup_iters = 100", "warmup_iters = 200"))
    study = fitted(tmp_path, baseline=path)
    assert study.candidates == ({"learning_rate": 5e-4, "min_lr": 5e-5},)
    assert study.notes == (f"candidates.1: left out, {path} contains it already",)


def test_candidates_that_a_new_baseline_cannot_run_are_left_out(tmp_path: Path) -> None:
    text = TEXT.replace("{warmup_iters: 200}", "{n_embd: 80}\n  - {warmup_iters: 5000}\n  - {dropout: 0.2}")
    path = config(tmp_path, MINE.replace("n_embd = 64", "n_embd = 96"))
    study = fitted(tmp_path, text=text, baseline=path)
    assert study.candidates == ({"learning_rate": 5e-4, "min_lr": 5e-5}, {"dropout": 0.2})
    assert study.notes[-2:] == (
        f"candidates.1: left out; with {path}, n_embd=80 is not divisible by head_size=24; nearest widths: 72 and 96",
        f"candidates.2: left out; with {path}, warmup_iters=5000 must be below lr_decay_iters=4000, or the rate never "
        "decays; lower warmup_iters or set decay_lr to false",
    )


def test_a_candidate_that_repeats_another_is_left_out_by_its_number(tmp_path: Path) -> None:
    text = TEXT.replace("{warmup_iters: 200}", "{n_embd: 80}\n  - {learning_rate: 5e-4, min_lr: 5e-5}")
    path = config(tmp_path, MINE.replace("n_embd = 64", "n_embd = 96"))
    study = fitted(tmp_path, text=text, baseline=path)
    assert study.candidates == ({"learning_rate": 5e-4, "min_lr": 5e-5},)
    assert study.notes[-1] == "candidates.2: left out, it is candidates.0"


def test_a_knob_that_cannot_be_run_is_left_out(tmp_path: Path) -> None:
    text = TEXT.replace("  dropout: {low", "  batch_size: {choices: [4, 8, 11]}\n  dropout: {low")
    path = config(tmp_path, MINE)
    study = fitted(tmp_path, "candidates=[]", "horizon={iters: 20}", text=text, baseline=path)
    assert "batch_size" not in study.knobs
    assert (
        sum(note.startswith(f"knobs.batch_size: left out; with {path}, batch_size=11 x 40") for note in study.notes)
        == 1
    )


def test_a_candidate_of_the_study_alone_is_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"candidates\.1\.warmup_iters: warmup_iters=5000 must be below"):
        small(tmp_path, text=TEXT.replace("{warmup_iters: 200}", "{warmup_iters: 5000}"))


def test_a_log_scale_that_would_hold_zero_becomes_linear(tmp_path: Path) -> None:
    text = TEXT.replace("  dropout: {low", "  weight_decay: {low: 1e-3, high: 0.5, log: true}\n  dropout: {low")
    path = config(tmp_path, MINE + "weight_decay = 0\n")
    study = fitted(tmp_path, text=text, baseline=path)
    assert study.knobs["weight_decay"] == RangeKnob(low=0.0, high=0.5)
    assert (
        "knobs.weight_decay: 0 to 0.5, on a linear scale instead of 0.001 to 0.5, to reach beyond the value of "
        f"{path}, 0" in study.notes
    )


def test_a_constant_rate_has_no_warm_up_to_sweep(tmp_path: Path) -> None:
    study = fitted(tmp_path, baseline=config(tmp_path, MINE + "decay_lr = False\n"))
    assert study.knobs.keys() == {"learning_rate", "dropout", "n_embd"}
    assert study.candidates == ({"learning_rate": 5e-4, "min_lr": 5e-5},)
    left = [note for note in study.notes if "decay_lr is False" in note]
    assert [note.partition(":")[0] for note in left] == ["knobs.min_lr", "knobs.warmup_iters", "candidates.1"]


def test_a_decay_that_ends_early_bounds_the_warm_up(tmp_path: Path) -> None:
    path = config(tmp_path, MINE.replace("lr_decay_iters = 4000", "lr_decay_iters = 400"))
    study = fitted(tmp_path, "candidates=[]", baseline=path)
    assert study.knobs["warmup_iters"] == RangeKnob(low=0.01, high=0.09, fraction_of="max_iters")


def test_no_trial_is_longer_than_the_run(tmp_path: Path) -> None:
    path = config(tmp_path, MINE.replace("4000", "200"))
    study = fitted(tmp_path, "candidates=[]", baseline=path)
    assert study.iters == 200
    assert f"horizon.iters: 200 instead of 600; the run of {path} has 200 iterations" in study.notes
    in_tokens = fitted(tmp_path, "candidates=[]", "horizon={tokens: 1000000}", baseline=path)
    per_iter = 8 * 40 * 1024
    assert in_tokens.iters == 10  # the fewest there are
    assert f"horizon.tokens: {10 * per_iter} instead of 1000000; " in " ".join(in_tokens.notes)


def test_races_keep_their_proportion_to_the_baseline(tmp_path: Path) -> None:
    start = "start={train: {max_iters: 3000}}"
    race = "race={iters: 1000, n_embd: [128, 1024, 32], n_layer: [3]}"
    no_width = "knobs.n_embd=null"
    path = config(tmp_path, MINE.replace("n_embd = 64", "n_embd = 96"))
    study = fitted(tmp_path, start, race, no_width, "candidates=[]", baseline=path)
    assert study.race is not None
    assert study.race.n_embd == (192, 48)  # 2 and 0.5 times; 16 times is more than twice
    assert study.race.n_layer == (6,)
    assert sum(note.startswith("race.") for note in study.notes) == 2


def test_pretrained_weights_are_noted(tmp_path: Path) -> None:
    path = config(tmp_path, MINE + "init_from = 'gpt2-xl'\n")
    assert fitted(tmp_path, baseline=path).notes == (
        f"{path} has init_from = 'gpt2-xl'; the study's trials start from scratch",
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("n_emb = 64", SpecError, "1: nanoGPT has no key 'n_emb' and would ignore it silently; did you mean n_embd?"),
        ("n_embd = f()", SpecError, "1: n_embd: 'f()' would have to be executed, and a config is read as data; write"),
        (
            "n_embd = 100",
            SpecError,
            "1: baseline.n_embd: n_embd=100 is not divisible by n_head=12; nearest widths: 96 and 108",
        ),
        ("dropout = 1.5", SpecError, "1: baseline.dropout: 1.5 must be below 1"),
    ],
)
def test_configs_that_cannot_be_a_baseline(tmp_path: Path, text: str, error: type[UserError], message: str) -> None:
    path = config(tmp_path, text)
    with pytest.raises(error, match=re.escape(f"{path}:{message}")):
        fitted(tmp_path, "candidates=[]", baseline=path)


def test_without_head_size_widths_stay_multiples_of_the_heads(tmp_path: Path) -> None:
    text = TEXT.replace("head_size: 16", "n_head: 4")
    study = fitted(tmp_path, text=text, baseline=config(tmp_path, MINE.replace("n_head = 4", "n_head = 8")))
    assert (study.baseline["n_head"], study.knobs["n_embd"]) == (8, RangeKnob(low=32, high=128, step=16))


@given(
    st.integers(1, 8),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([1, 8, 12, 16, 24, 96]),
)
@settings(deadline=None)
def test_widened_widths_hold_everything(low: int, steps: int, width: int, step: int, unit: int) -> None:
    """For any range and new head size, heads divide all widths, and the baseline's width is among them."""
    knob = RangeKnob(low=16 * low, high=16 * low + 16 * step * steps, step=16 * step)
    settings = {"n_embd": width * unit}
    wider = widened("n_embd", knob, settings, unit=unit)
    assert isinstance(wider, RangeKnob)
    assert wider.contains(width * unit)
    assert wider.high > width * unit, "beyond the baseline"
    assert wider.low < width * unit or width == 1 or wider.step >= width * unit  # type: ignore[operator]
    assert all(value % unit == 0 for value in wider.wholes())
    assert wider.low <= max(knob.low, unit)
    assert wider.high >= knob.high
    inside = knob.low < width * unit < knob.high
    if inside and knob.contains(width * unit) and all(value % unit == 0 for value in knob.wholes()):
        assert wider == knob


@pytest.mark.parametrize(
    ("name", "knob", "value", "expected"),
    [
        ("dropout", RangeKnob(low=0.0, high=0.3, step=0.1), 0.25, RangeKnob(low=0.0, high=0.3)),
        ("dropout", RangeKnob(low=0.0, high=0.3), 0.0, RangeKnob(low=0.0, high=0.3)),
        ("dropout", RangeKnob(low=0.0, high=0.3), 0.3, RangeKnob(low=0.0, high=0.45)),
        ("dropout", RangeKnob(low=0.0, high=0.9), 0.9, RangeKnob(low=0.0, high=0.95)),
        ("learning_rate", RangeKnob(low=1e-4, high=1e-2, log=True), 1e-4, RangeKnob(low=3.3e-5, high=1e-2, log=True)),
        ("learning_rate", RangeKnob(low=1e-4, high=1e-2, log=True), 2e-2, RangeKnob(low=1e-4, high=6e-2, log=True)),
        ("grad_clip", RangeKnob(low=0.5, high=2.0), 0.0, RangeKnob(low=0.0, high=2.0)),
        ("dropout", RangeKnob(low=0.0, high=0.3, step=0.1), 0.2, RangeKnob(low=0.0, high=0.3, step=0.1)),
        ("beta2", RangeKnob(low=0.95, high=0.99), 0.9, RangeKnob(low=0.88, high=0.99)),
        ("beta2", RangeKnob(low=0.95, high=0.99), 0.99, RangeKnob(low=0.95, high=0.995)),
        ("n_layer", RangeKnob(low=4, high=12, step=4), 6, RangeKnob(low=4, high=12, step=2)),
        ("n_layer", RangeKnob(low=4, high=12, step=4), 16, RangeKnob(low=4, high=24, step=4)),
        ("n_layer", RangeKnob(low=4, high=12), 2, RangeKnob(low=1, high=12)),
        ("n_layer", RangeKnob(low=4, high=12), 12, RangeKnob(low=4, high=16)),
        ("batch_size", ChoicesKnob(choices=(4, 8)), 12, ChoicesKnob(choices=(6, 12, 24))),
        ("beta2", ChoicesKnob(choices=(0.95, 0.99)), 0.9, ChoicesKnob(choices=(0.95, 0.99, 0.9))),
        ("batch_size", ChoicesKnob(choices=(4, 8)), 8, ChoicesKnob(choices=(4, 8, 16))),
        ("batch_size", ChoicesKnob(choices=(4, 8, 16)), 8, ChoicesKnob(choices=(4, 8, 16))),
        ("batch_size", ChoicesKnob(choices=(1, 2)), 1, ChoicesKnob(choices=(1, 2))),
    ],
)
def test_widened(name: str, knob: Any, value: float, expected: Any) -> None:
    assert widened(name, knob, {name: value}, unit=1) == expected


def test_the_order_of_layers(tmp_path: Path) -> None:
    """File, profile, --baseline, --set."""
    text = TEXT + "profiles: {cpu: {baseline: {dropout: 0.2, n_layer: 9}, trials: 11}}\n"
    path = config(tmp_path, MINE)
    study = load(
        write(tmp_path, text),
        overrides=["baseline.dropout=0.05", "data.source=embedded"],
        baseline=path,
        devices_have_cuda=False,
    )
    assert (study.trials, study.baseline["n_layer"], study.baseline["dropout"]) == (11, 4, 0.05)


# --- what people have ---------------------------------------------------------------------------------------

STUDIES = ("smoke", "plateau", "scratch")
CONFIGS = NANOGPT | USERS


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("cuda", [False, True])
def test_every_config_that_people_have_is_a_baseline(tmp_path: Path, name: str, study: str, cuda: bool) -> None:
    """Its settings are those that Python would set; every knob but a natural end lies on both sides of them."""
    scope: dict[str, Any] = dict(DEFAULTS)
    known = re.sub("str\\(time.time\\(\\)\\)|torch.cuda.is_bf16_supported\\(\\)", "''", CONFIGS[name])
    exec(known, scope)  # noqa: S102  # the oracle, without a clock and a card; the text is ours
    path, data = write_config(tmp_path, CONFIGS[name]), write_data(tmp_path / "bins", tokens=4096)
    loaded = load(ROOT / "studies" / f"{study}.yaml", baseline=path, data=str(data), devices_have_cuda=cuda)
    baseline = with_heads(loaded.baseline)
    for key in set(baseline) - {"label_smoothing", "data_fraction", "dtype", "head_size"}:
        assert baseline[key] == scope[key], key
    for knob_name, knob in loaded.sampled.items():
        if isinstance(knob, RangeKnob) and not (loaded.branches and knob_name in OF_THE_CONTROL):
            value = loaded.knob_value(knob_name)
            unit = loaded.head_unit if knob_name == "n_embd" else 1
            assert knob.low < value or knob.low == {"n_embd": unit, "n_layer": 1}.get(knob_name, 0), knob_name
            assert value < knob.high or (knob_name, value) == ("warmup_iters", 1), knob_name
    assert loaded.iters <= max(10, scope["max_iters"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("derived", []),
        ("helpers", ["no value of them: dtype (line 13, trials use bfloat16)"]),
        (
            "clock",
            [
                "no value of them: line 1 ('import time'), line 2 ('import os') and wandb_run_name (line 7)",
                "500 iterations",
            ],
        ),
        ("fork", ["nanoGPT has no such keys: seed, vocab_size, lora_rank, lora_alpha and tie_embeddings"]),
        ("laptop", []),
        (
            "no schedule",
            [
                "warmup_iters=2000 is longer than the run of 1500 iterations",
                "lr_decay_iters=600000 is beyond max_iters=1500",
            ],
        ),
        ("eval_gpt2_xl", ["init_from = 'gpt2-xl'; the study's trials start", "eval_only = True; the study's trials"]),
    ],
)
def test_what_is_passed_over_is_said_in_a_line(tmp_path: Path, name: str, words: list[str]) -> None:
    study = fitted(tmp_path, "candidates=[]", baseline=write_config(tmp_path, CONFIGS[name]))
    said = [note for note in study.notes if "to reach beyond" not in note]
    assert len(said) == len(words)
    assert all(word in note for word, note in zip(words, said, strict=True))


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = "n_emb = 64\nmax_iters = f()\ndropout = 1.5\nbeta2 = -1\nout_dir = f()\nexec('')\n"
    path = write_config(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        fitted(tmp_path, baseline=path)
    lines = str(caught.value).splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == [f"{path}:{line}" for line in (1, 2, 3, 4, 6)]


def test_all_that_does_not_go_together_is_said_at_once(tmp_path: Path) -> None:
    path = write_config(tmp_path, "n_embd = 100\nlearning_rate = 1e-5\nwarmup_iters = 9\nlr_decay_iters = 9\n")
    with pytest.raises(SpecError) as caught:
        fitted(tmp_path, baseline=path)
    first, second, third = str(caught.value).splitlines()
    assert first.startswith(f"{path}:1: baseline.n_embd: n_embd=100 is not divisible by n_head=12")
    assert second.startswith(f"{path}:3: baseline.warmup_iters: warmup_iters=9 must be below lr_decay_iters=9")
    assert third.startswith(f"{path}: baseline.min_lr: min_lr=6e-05 is above learning_rate=1e-05")


def test_a_default_in_place_of_what_cannot_be_read_is_blamed_for_nothing(tmp_path: Path) -> None:
    """nanoGPT's width of 768 is not divisible by 5, but the user's may be."""
    path = write_config(tmp_path, "n_embd = f()\nn_head = 5\n")
    with pytest.raises(SpecError) as caught:
        fitted(tmp_path, baseline=path)
    assert str(caught.value).splitlines() == [
        f"{path}:1: n_embd: 'f()' would have to be executed, and a config is read as data; write its value"
    ]


def test_a_value_on_the_command_line_mends_one_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_config(tmp_path, MINE + "max_iters = int(os.environ['N'])\n")
    with pytest.raises(SpecError, match=r"max_iters: \"os\.environ\['N'\]\" would have to be executed"):
        fitted(tmp_path, baseline=path)
    assert fitted(tmp_path, "baseline.max_iters=4000", baseline=path).baseline["max_iters"] == 4000


# --- the config's dataset -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["config/poems", "config/data/poems", "data/poems", "here/data/poems"])
def test_the_dataset_is_found_beside_the_config_or_under_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path, data = write_config(tmp_path, USERS["derived"]), write_data(tmp_path / place, tokens=4096)
    study = small(tmp_path, baseline=path)
    assert study.data == BinData(bin=str(data))
    assert f"data: {data}, as the dataset of {path} is 'poems'" in study.notes


def test_a_dataset_may_be_a_path_or_a_folder_of_parquet(tmp_path: Path) -> None:
    data = write_data(tmp_path / "elsewhere", tokens=4096)
    path = write_config(tmp_path, USERS["derived"] + f"dataset = {str(data)!r}\n")
    assert small(tmp_path, baseline=path).data == BinData(bin=str(data))
    (tmp_path / "data" / "rows").mkdir(parents=True)
    (tmp_path / "data" / "rows" / "a.parquet").write_bytes(b"")
    path = write_config(tmp_path, USERS["derived"] + "dataset = 'rows'\n")
    assert small(tmp_path, baseline=path).data == ParquetData(parquet=(str(tmp_path / "data" / "rows"),))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (USERS["derived"], "the dataset of {} is 'poems', which isn't there (tried: "),
        (MINE, "{} sets no dataset, and nanoGPT's default is 'openwebtext', which isn't there (tried: "),
        (MINE + "dataset = f()\n", "the dataset of {} can't be read: f(); name the data with --data"),
    ],
)
def test_the_embedded_corpus_never_stands_in_for_a_dataset(tmp_path: Path, text: str, words: str) -> None:
    path = write_config(tmp_path, text)
    for study in (TEXT, TEXT.replace("data: {source: embedded}\n", "")):
        with pytest.raises(SpecError) as caught:
            small(tmp_path, text=study, baseline=path)
        assert words.format(path) in str(caught.value)
        assert str(caught.value).endswith("name the data with --data")
    assert small(tmp_path, "data.source=embedded", baseline=path).data == EmbeddedData(source="embedded")
    assert small(tmp_path, baseline=path, data="*.parquet").data == ParquetData(parquet=("*.parquet",))


def test_a_dataset_that_is_not_prepared_is_an_error(tmp_path: Path) -> None:
    path, folder = write_config(tmp_path, USERS["derived"]), tmp_path / "data" / "poems"
    folder.mkdir(parents=True)
    with pytest.raises(SpecError, match=f"but {folder} holds no train.bin: run its prepare.py"):
        small(tmp_path, baseline=path)


def test_files_that_the_study_names_are_its_data(tmp_path: Path) -> None:
    path = write_config(tmp_path, USERS["derived"])
    study = small(tmp_path, text=TEXT.replace("{source: embedded}", "{parquet: a.parquet}"), baseline=path)
    assert study.data == ParquetData(parquet=("a.parquet",))
    assert any("although the dataset of" in note for note in study.notes)
