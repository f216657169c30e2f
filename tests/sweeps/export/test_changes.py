"""The user's own config, changed: what is taken over from a trial, what stays, and how nanoGPT reads the result."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sweeps import cli
from sweeps.analysis.attribution import KnobWord
from sweeps.analysis.findings import Findings
from sweeps.commands import export as commands_export
from sweeps.export.changes import Change, change_of, own_length, rounded
from sweeps.export.nanogpt_config import ExportError, NanogptConfig
from sweeps.export.trial import check_best, export_run, trial_of
from sweeps.store.records import Results, Run
from sweeps.study.load import load
from sweeps.study.own import OwnConfig
from sweeps.study.proposals import baseline_config, config_of
from sweeps.study.study import Study
from tests.helpers import confirming, synthetic
from tests.helpers.exports import comments, data, run
from tests.helpers.nanogpt_configs import NANOGPT, USERS, write_config, write_data
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[3]
CONFIGS = NANOGPT | USERS
TRAIN_PY: dict[str, Any] = {
    "out_dir": "out", "eval_interval": 2000, "log_interval": 1, "eval_iters": 200, "eval_only": False,
    "always_save_checkpoint": True, "init_from": "scratch", "wandb_log": False, "wandb_project": "owt",
    "wandb_run_name": "gpt2", "dataset": "openwebtext", "gradient_accumulation_steps": 40, "batch_size": 12,
    "block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768, "dropout": 0.0, "bias": False,
    "learning_rate": 6e-4, "max_iters": 600000, "weight_decay": 1e-1, "beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0,
    "decay_lr": True, "warmup_iters": 2000, "lr_decay_iters": 600000, "min_lr": 6e-5, "backend": "nccl",
    "device": "cuda", "dtype": "bfloat16", "compile": True,
}  # fmt: skip
"""the globals of karpathy/nanoGPT's train.py at 3adf61e, lines 34 to 74, on a card that has bfloat16"""


def nanogpt_reads(text: str) -> dict[str, Any]:
    """Return train.py's settings after configurator.py has executed the text: no new names, and the defaults' types."""
    scope = dict(TRAIN_PY)
    exec(text, scope)  # noqa: S102  # it is what nanoGPT does, and the text is ours
    del scope["__builtins__"]
    assert scope.keys() == TRAIN_PY.keys(), "a name that nanoGPT has not"
    wrong = {key: value for key, value in scope.items() if type(value) is not type(TRAIN_PY[key])}
    assert not wrong, "nanoGPT asserts that a later --key=value has the type of the value before it"
    return scope


def around(folder: Path, name: str, *, study: str = "scratch") -> Study:
    """Return a shipped study around one of CONFIGS, on data of its own."""
    path, bins = write_config(folder, CONFIGS[name]), write_data(folder / "bins", tokens=4096)
    return load(ROOT / "studies" / f"{study}.yaml", baseline=path, data=str(bins), devices_have_cuda=True)


def exported(study: Study, tested: TrainConfig, **options: Any) -> NanogptConfig:
    trial = run(9, config=tested, seed=tested.seed)
    results = Results(study=study, data=data(), runs=(trial,), provenance={}, seconds=1.0)
    return export_run(Findings(results), trial, date="d", **options)


@pytest.mark.parametrize("name", CONFIGS)
def test_nanogpt_reads_every_export_as_the_users_config_with_the_change(tmp_path: Path, name: str) -> None:
    study = around(tmp_path, name)
    reference = baseline_config(study, seed=study.seed, vocab_size=65)
    text = exported(study, reference.replace(dropout=0.123456, weight_decay=0.0317)).text
    known = re.sub(r"str\(time.time\(\)\)|torch.cuda.is_bf16_supported\(\)", "'?'", CONFIGS[name])
    own = dict(TRAIN_PY)
    exec(known, own)  # noqa: S102  # the oracle; the text is ours
    read = nanogpt_reads(text)
    unread = {"clock": {"wandb_run_name"}, "helpers": {"dtype"}, "finetune_shakespeare": {"wandb_run_name"}}
    free = {"out_dir", "eval_only", "eval_interval", *unread.get(name, ())}
    if "dataset" not in CONFIGS[name]:
        free.add("dataset")
        assert read["dataset"] == "/data/prepared"
    changed = {"dropout": 0.12, "weight_decay": 0.0317}
    for key in TRAIN_PY.keys() - free:
        assert read[key] == changed.get(key, own[key]), key
    assert read["out_dir"] == f"{own['out_dir']}-plateau-9"
    if own["eval_interval"] <= own["max_iters"]:
        assert read["eval_interval"] == own["eval_interval"]
    else:  # nanoGPT would save nothing of the run
        assert own["max_iters"] % read["eval_interval"] == 0
    assert not read["eval_only"]
    for key in unread.get(name, ()):
        assert f"{key} = " in comments(text)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_export_without_a_change_is_the_users_config(tmp_path: Path, name: str) -> None:
    study = around(tmp_path, name)
    config = exported(study, baseline_config(study, seed=study.seed, vocab_size=65))
    assert config.changed.keys() <= {"out_dir", "dataset", "eval_interval"}
    assert config.why.keys() == config.changed.keys()
    assert config.kept.keys() | config.changed.keys() == config.settings.keys()


def test_what_is_passed_over_and_a_forks_keys_stand_in_comments(tmp_path: Path) -> None:
    study = around(tmp_path, "fork")
    text = exported(study, baseline_config(study, seed=study.seed, vocab_size=65)).text
    assert "# - lora_alpha = 16.0" in text
    assert "lora_alpha" not in nanogpt_reads(text)


class TestOnlyWhatIsShown:
    """The best of a study on which only the learning rate matters."""

    def results(self, **own: Any) -> Results:
        results = confirming.known("slow")
        if not own:
            return results
        study = results.study.model_copy(update={"own": OwnConfig(file="mine.py", settings=own)})
        return dataclasses.replace(results, study=study)

    def test_the_shown_knob_changes_and_the_rest_stays(self) -> None:
        found = Findings(self.results())
        attribution = found.attribution
        assert attribution is not None
        assert attribution.broken
        assert attribution.headline == ("learning_rate",)
        best = trial_of(found, None)
        config = export_run(found, best, date="d")
        before = found.study.baseline
        kept = {"weight_decay", "dropout", "warmup_iters", "n_embd", "max_iters", "lr_decay_iters", "batch_size"}
        assert {key: config.settings[key] for key in kept} == {key: before[key] for key in kept}
        assert config.settings["learning_rate"] == rounded("learning_rate", best.config.learning_rate)
        share = float(before["min_lr"]) / float(before["learning_rate"])
        assert config.settings["min_lr"] == pytest.approx(share * float(config.settings["learning_rate"]), rel=0.05)
        assert set(config.changed) == {"learning_rate", "min_lr"}
        assert config.changed["learning_rate"] == (before["learning_rate"], config.settings["learning_rate"])
        assert "alone" in config.why["learning_rate"]
        assert config.why["min_lr"] == "it keeps its share of learning_rate"
        left = [knob.knob for knob in attribution.knobs if knob.knob != "learning_rate"]
        assert left
        for knob in left:
            assert f"{knob}: " in comments(config.text).partition("Not taken over from the trial")[2]

    @pytest.mark.parametrize(("knob", "alone"), [("learning_rate", True), ("dropout", False)])
    def test_a_knob_that_the_best_merely_needs_is_taken_alone_only_if_it_gains_alone(
        self, knob: str, alone: bool
    ) -> None:
        found = Findings(self.results())
        known = found.attribution
        assert known is not None
        knobs = tuple(dataclasses.replace(one, word=KnobWord.NECESSARY) for one in known.knobs)
        vars(found)["attribution"] = dataclasses.replace(known, knobs=knobs, headline=(knob,))
        change = change_of(found, known.best, whole=False)
        assert (change.tested != known.best.config) is alone
        assert ("Without the best trial's other changes the gain is +0.1" in change.together) is alone

    def test_all_takes_the_best_trial_whole(self) -> None:
        found = Findings(self.results())
        assert found.attribution is not None
        best = trial_of(found, None, whole=True)
        assert best.id == found.attribution.searched.id
        settings = export_run(found, best, date="d", whole=True).settings
        for knob in ("learning_rate", "weight_decay", "dropout", "n_embd"):
            assert settings[knob] == rounded(knob, getattr(best.config, knob))
        assert settings["min_lr"] == pytest.approx(best.config.min_lr, rel=0.06)

    def test_the_users_settings_stay(self) -> None:
        own = {"out_dir": "out-mine", "wandb_log": True, "log_interval": 7, "dtype": "float16", "dataset": "poems",
               "eval_interval": 150, "eval_iters": 33, "device": "cuda:1"}  # fmt: skip
        found = Findings(self.results(**own))
        settings = export_run(found, trial_of(found, None), date="d").settings
        assert {key: settings[key] for key in own if key != "out_dir"} == {
            k: v for k, v in own.items() if k != "out_dir"
        }
        assert str(settings["out_dir"]).startswith("out-mine-plateau-")
        assert "compile" not in settings  # nanoGPT's own default, as before

    def test_the_command_says_what_changed_and_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = Findings(self.results())
        monkeypatch.setattr(commands_export, "findings_of", lambda *_: (SimpleNamespace(paths=None), found))
        said = json.loads(CliRunner().invoke(cli.app, ["export", "plateau", "--json"]).stdout)
        rate = found.study.baseline["learning_rate"]
        assert said["changed"]["learning_rate"] == [rate, said["config"]["learning_rate"]]
        assert said["why"].keys() == said["changed"].keys()
        assert said["kept"]["weight_decay"] == found.study.baseline["weight_decay"]
        whole = json.loads(CliRunner().invoke(cli.app, ["export", "plateau", "--all", "--json"]).stdout)
        assert len(whole["changed"]) > len(said["changed"])

    @pytest.mark.parametrize("surface", ["flat", "both"])
    def test_other_verdicts(self, surface: str) -> None:
        """Nothing shown is refused; what is shown only together is taken over together."""
        found = Findings(confirming.known(surface))
        if surface == "flat":
            with pytest.raises(ExportError, match="--force exports trial"):
                check_best(found)
            return
        check_best(found)
        settings = export_run(found, trial_of(found, None), date="d").settings
        before = found.study.baseline
        assert settings["weight_decay"] != before["weight_decay"]
        assert settings["n_embd"] != before["n_embd"]
        assert settings["learning_rate"] == before["learning_rate"]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("learning_rate", 0.003021, 0.003),
        ("learning_rate", 1.25e-3, 1.25e-3),
        ("dropout", 0.13579, 0.14),
        ("beta2", 0.98763, 0.988),
        ("beta2", 0.99, 0.99),
        ("n_embd", 1234567, 1234567),
        ("weight_decay", 0.0, 0.0),
    ],
)
def test_sampled_numbers_are_rounded(name: str, value: float, wanted: float) -> None:
    assert rounded(name, value) == wanted


@functools.cache
def long_study() -> Study:
    """Return a study of trials of 600 iterations for a run of 20 000, with a warm-up of 500."""
    baseline = {**synthetic.study().baseline, "max_iters": 20_000, "lr_decay_iters": 20_000, "warmup_iters": 500}
    return synthetic.study(baseline=baseline)


def at_own_length(fraction: float, *, shown: bool, iters: int | None = None, **params: Any) -> TrainConfig:
    study = long_study()
    reference = baseline_config(study, seed=1337, vocab_size=2048)
    usual = {**synthetic.params_of(reference), "warmup_fraction": fraction, **params}
    tested = config_of(study, usual, seed=1337, vocab_size=2048)
    return own_length(study, Change(tested=tested, reference=reference, warm_up_shown=shown), iters=iters)


@pytest.mark.parametrize(
    ("fraction", "shown", "iters", "wanted"),
    [
        (0.025, False, None, 500),  # the baseline's own stays
        (0.2, False, None, 500),  # no more than the baseline's own
        (0.2, True, None, 4000),  # unless it is shown to matter
        (0.01, False, None, 200),
        (0.025, False, 100_000, 500),  # no more tokens, however long the run
        (0.025, False, 600, 15),
        (0.025, False, 300, 15),  # no fewer tokens than were tested
        (0.2, True, 1200, 240),
    ],
)
def test_a_warm_up_carries_over_as_tokens(fraction: float, shown: bool, iters: int | None, wanted: int) -> None:
    assert at_own_length(fraction, shown=shown, iters=iters).warmup_iters == wanted


@given(
    fraction=st.floats(0.0, 0.5),
    shown=st.booleans(),
    iters=st.none() | st.integers(600, 10**6),
    rate=st.floats(1e-4, 6e-3),
)
@settings(deadline=None, max_examples=60)
def test_a_long_warm_up_is_at_least_the_tested_and_at_most_the_users(
    fraction: float, shown: bool, iters: int | None, rate: float
) -> None:
    tested = round(600 * fraction)
    long = at_own_length(fraction, shown=shown, iters=iters, learning_rate=rate)
    assert long.max_iters == (iters or 20_000)
    assert long.warmup_iters >= min(tested, 0.94 * 600 * fraction)  # two digits of a share that is shown
    if not shown:
        assert long.warmup_iters <= max(500, tested)


def test_another_batch_sees_the_same_tokens() -> None:
    study = long_study().model_copy(update={"knobs": {**long_study().knobs}})
    reference = baseline_config(study, seed=1337, vocab_size=2048)
    tested = reference.replace(batch_size=32, max_iters=300, lr_decay_iters=300, warmup_iters=8, eval_interval=10)
    long = own_length(study, Change(tested=tested, reference=reference), iters=None)
    assert (long.batch_size, long.max_iters, long.lr_decay_iters) == (32, 10_000, 10_000)
    assert long.max_iters * long.tokens_per_iter == 20_000 * reference.tokens_per_iter
    assert long.warmup_iters * long.tokens_per_iter == 500 * reference.tokens_per_iter


def test_a_trial_that_is_named_is_taken_whole() -> None:
    found = Findings(confirming.known("slow"))
    trial = next(one for one in found.results.search_runs if one.origin == "sampler")
    change = change_of(found, trial, whole=True)
    assert change.tested == trial.config
    assert not change.left


def test_the_run_that_is_exported_is_one_of_the_study(tmp_path: Path) -> None:
    """A trial of another study's shape is no reason to refuse; its settings are taken as they are."""
    odd: Run = run(3, config=TrainConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, max_iters=600, warmup_iters=0,
                                         lr_decay_iters=600))  # fmt: skip
    results = Results(study=synthetic.study(), data=data(), runs=(odd,), provenance={}, seconds=1.0)
    assert export_run(Findings(results), odd, date="d").settings["n_embd"] == 8
