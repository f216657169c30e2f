"""Loaded studies: defaults, allowed changes, and the schema that editors read."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.engine.opening import changes
from sweeps.errors import SpecError
from sweeps.pruning import pruner
from sweeps.pruning.rule import Rule
from sweeps.study.authoring import json_schema
from sweeps.study.baseline import DEFAULTS
from sweeps.study.load import check_card, load
from sweeps.study.sections import SCRATCH_MARGIN, BinData, Fit, MinuteHorizon, ParquetData, PlateauPruning
from sweeps.study.study import Study
from tests.helpers import study_files
from tests.helpers.study_files import TEXT, small
from trainer import nanogpt, strict_yaml
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "sweeps" / "study" / "templates" / "study.yaml"
SHIPPED = [TEMPLATE, *sorted((ROOT / "studies").glob("*.yaml"))]
COMPLETE = [path for path in SHIPPED if path.name != "resume.yaml"]
"""without the one that a checkpoint completes (test_checkpoint.py)"""


@pytest.mark.parametrize(
    ("profile", "cards", "sets", "refused"),
    [
        ("cuda", 0, (), True),
        ("cuda", 1, (), False),
        ("cpu", 0, (), False),
        (None, 0, (), False),
        ("cuda", 0, ("workers.devices=[cpu]",), False),
        ("cuda", 0, ("workers.ray=auto",), False),  # the cards are those of the cluster
    ],
)
def test_the_profile_of_a_card_needs_a_card(
    profile: str | None, cards: int, sets: tuple[str, ...], refused: bool
) -> None:
    study = load(TEMPLATE, profile=profile, overrides=sets, devices_have_cuda=False)
    if not refused:
        check_card(study, "my.yaml", profile=profile, cards=cards)
        return
    with pytest.raises(SpecError, match=r"no CUDA device here.*sweep plan my.yaml --profile cuda --device"):
        check_card(study, "my.yaml", profile=profile, cards=cards)


def test_missing_keys_have_their_defaults(tmp_path: Path) -> None:
    study = small(tmp_path)
    assert (study.evaluations, study.final_windows, study.baseline_seeds, study.trials) == (30, 2048, 3, 40)
    assert (study.seed, study.hours, study.store, study.notes) == (1337, None, None, ())
    assert (study.sampler.type, study.pruner.type, study.workers.devices) == ("tpe", "plateau", "auto")
    assert study.baseline["weight_decay"] == nanogpt.DEFAULTS["weight_decay"] == 0.1
    assert study.baseline["head_size"] == 16
    assert "n_head" not in study.baseline
    assert study.iters == 600
    assert study.tokens_per_iter == 8 * 2 * 32


def test_in_a_branch_a_warm_up_may_be_longer_than_the_baselines_decay(tmp_path: Path) -> None:
    """A branch decays to its own end; the baseline's decay ends at a tenth of its run here."""
    sets = ("baseline.lr_decay_iters=200", "knobs.n_embd=null", "candidates=[]")
    with pytest.raises(SpecError, match=r"0\.2 must be below 0\.1"):
        small(tmp_path, *sets)
    branching = small(tmp_path, *sets, "start={train: {max_iters: 2000}}")
    assert branching.knobs["warmup_iters"].ends()["high"] == 0.2
    with pytest.raises(SpecError, match="must be below 1, "):
        small(tmp_path, *sets, "start={train: {max_iters: 2000}}", "knobs.warmup_iters.high=1")


def test_the_plateau_pruner_has_its_rules_defaults() -> None:
    """The defaults stand twice, because importing the rule would load scipy."""
    settings = PlateauPruning(type="plateau")
    parameters = inspect.signature(pruner.PlateauPruner).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    written = {**settings.model_dump(exclude={"type"}), "margin": SCRATCH_MARGIN, "trials": None}
    assert written == defaults
    assert {name: value for name, value in written.items() if name != "sentinel"} == dataclasses.asdict(Rule())


def test_a_baseline_without_head_size_has_nanogpts_heads(tmp_path: Path) -> None:
    text = TEXT.replace("  head_size: 16\n", "").replace("n_embd: 64", "n_embd: 768").replace("high: 128", "high: 768")
    text = text.replace("step: 16", "step: 48").replace("low: 32", "low: 48")
    assert small(tmp_path, text=text).head_unit == 12


def test_a_horizon_in_tokens(tmp_path: Path) -> None:
    assert small(tmp_path, "horizon={tokens: 307711}").iters == 600  # 512 tokens per iteration, and 511 more


@pytest.mark.parametrize(
    ("sets", "data"),
    [
        (["data={bin: data/owt}"], BinData(bin="data/owt")),
        (["data={parquet: a.parquet}"], ParquetData(parquet=("a.parquet",))),
        (["data={parquet: [a, b], text: body}"], ParquetData(parquet=("a", "b"), text="body")),
    ],
)
def test_data(tmp_path: Path, sets: list[str], data: Any) -> None:
    assert small(tmp_path, *sets).data == data


@pytest.mark.parametrize(
    "sets",
    [
        [],
        ["data={parquet: [a, b]}", "tokenizer={type: bpe, vocab_size: 512}", "hours=1.5", "workers.devices=[cpu, cpu]"],
        ["knobs.batch_size={choices: [4, 8, 16]}", "pruner={type: hyperband}", "horizon={tokens: 1000000}"],
        ["horizon={minutes: 5, equal: flops}"],
        ["pruner={type: plateau, looks: [0.25, 0.5], epsilon: 0.05, min_completed: 8}"],
        ["baseline.learning_rate=0.0012345678901234567", "knobs.n_embd.round=true", "store=sqlite:///a.db"],
    ],
)
def test_the_stored_study_is_the_study(tmp_path: Path, sets: list[str]) -> None:
    study = small(tmp_path, *sets)
    assert Study.model_validate_json(study.model_dump_json()) == study
    assert changes(study, Study.model_validate_json(study.model_dump_json())) == []


def test_an_empty_baseline_is_nanogpts() -> None:
    expected = {name: value for name, value in TrainConfig().as_dict().items() if name in DEFAULTS}
    assert expected == DEFAULTS


@pytest.mark.parametrize("name", ["a", "Plateau-2.b_c", "0", "x" * 64])
def test_good_names(tmp_path: Path, name: str) -> None:
    assert small(tmp_path, f"name='{name}'").name == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", "a/b", "a b", "a:b", "x" * 65, "a\\nb", "ä", "a-confirm"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=r"--set: name: .* (use 1 to 64|choose another name)"):
        small(tmp_path, f'name="{name}"')


def test_a_schedule_that_never_ends_is_noted(tmp_path: Path) -> None:
    assert small(tmp_path, "baseline.lr_decay_iters=5000").notes == (
        "baseline: lr_decay_iters=5000 is beyond max_iters=2000, so trials too end before the rate has decayed",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("trials=60", []),
        ("baseline_seeds=5", []),
        ("hours=2", []),
        ("workers.devices=[cpu]", []),
        ("store=sqlite:///elsewhere.db", []),
        ("baseline.bias=false", []),  # its default, written out
        ("knobs.dropout.low=0", []),  # 0.0
        ("trials=20", ["trials: 40 → 20 (it can grow, not shrink: keep 40, or give the study a new name)"]),
        (
            "baseline_seeds=1",
            ["baseline_seeds: 3 → 1 (it can grow, not shrink: keep 3, or give the study a new name)"],
        ),
        ("knobs.dropout.high=0.5", ["knobs.dropout.high: 0.3 → 0.5"]),
        ("knobs.dropout=null", ["knobs.dropout: {low: 0, high: 0.3, log: false, round: false} → none"]),
        ("knobs.beta2={choices: [0.95, 0.99]}", ["knobs.beta2: none → {choices: [0.95, 0.99]}"]),
        ("horizon.iters=800", ["horizon.iters: 600 → 800"]),
        ("horizon={minutes: 5}", ["horizon.iters: 600 → none", "horizon.minutes: none → 5",
                                  "horizon.equal: none → tokens"]),
        ("candidates.1.warmup_iters=300", ["candidates.1.warmup_iters: 200 → 300"]),
        ("seed=7", ["seed: 1337 → 7"]),
        ("evaluations=20", ["evaluations: 30 → 20"]),
        ("final_windows=64", ["final_windows: 2048 → 64"]),
        ("baseline.dropout=0.2", ["baseline.dropout: 0.1 → 0.2"]),
        ("data={bin: d}", ["data.val_fraction: 0.05 → none", "data.min_chars: 200 → none", "data.dedup: true → none",
                           "data.source: embedded → none", "data.bin: none → d"]),
    ],
)  # fmt: skip
def test_changes_of_a_study_that_has_begun(tmp_path: Path, change: str, words: list[str]) -> None:
    assert changes(small(tmp_path), small(tmp_path, change)) == words


def test_every_other_key_is_watched(tmp_path: Path) -> None:
    """A new key of Study must be added to one of these two sets."""
    free = {"trials", "baseline_seeds", "hours", "workers", "store", "notes", "origin", "own", "race", "chosen"}
    no_width = "knobs.n_embd=null"  # a checkpoint can't shrink
    assert changes(small(tmp_path, no_width), small(tmp_path, no_width, "start={train: {max_iters: 3000}}"))
    watched = {
        "name": "other",
        "data": "{bin: d}",
        "tokenizer": "{type: gpt2}",
        "baseline": "{n_embd: 64, head_size: 16, dropout: 0.2, max_iters: 20000, learning_rate: 1e-3}",
        "horizon": "{iters: 601}",
        "pilot": "{max_iters: 4800}",
        "evaluations": "31",
        "final_windows": "2049",
        "knobs": "{dropout: {low: 0, high: 0.2}}",
        "candidates": "[]",
        "seed": "1",
        "sampler": "{type: random}",
        "pruner": "{type: none}",
        "confirm": "{min_effect: 0.03}",
    }
    assert free | {"start"} | set(watched) == set(Study.model_fields)
    for name, value in watched.items():
        assert changes(small(tmp_path), small(tmp_path, f"{name}={value}")), name
    assert not changes(small(tmp_path), small(tmp_path, "confirm={seeds: 8, max_trials: 3}"))


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.name)
@pytest.mark.parametrize("cuda", [False, True])
def test_shipped_studies_load(path: Path, cuda: bool) -> None:
    study = load(path, devices_have_cuda=cuda)
    assert study.notes == ()
    for profile in strict_yaml.read(path).value.get("profiles", {}):
        load(path, profile=profile, devices_have_cuda=cuda)


def test_the_template_is_the_story(tmp_path: Path) -> None:
    """The run that plateaued first: 12 layers of width 384, 65536 tokens per iteration."""
    cuda, cpu = (load(TEMPLATE, devices_have_cuda=cuda) for cuda in (True, False))
    assert cuda.tokens_per_iter == 65536
    assert (cuda.baseline["n_layer"], cuda.baseline["n_embd"], cuda.baseline["head_size"], cuda.iters) == (
        12,
        384,
        32,
        600,
    )
    assert (cpu.baseline["n_layer"], cpu.baseline["n_embd"], cpu.sequences_per_iter, cpu.iters) == (3, 64, 16, 400)
    assert cpu.tokenizer.type == "bpe"
    assert len(cuda.knobs) == len(cpu.knobs) == 7


def test_a_horizon_in_minutes_is_compared_by_what_was_written(tmp_path: Path) -> None:
    """The measured length is ignored: it is taken over from the store."""
    fit = Fit(iters=700, evaluations=28, windows=8, evaluated=9000, speeds=())
    written = small(tmp_path, "horizon={minutes: 5, equal: time}")
    measured = written.model_copy(update={"horizon": MinuteHorizon(minutes=5, equal="time", fit=fit)})
    assert changes(measured, written) == []
    assert Study.model_validate_json(measured.model_dump_json()).fit == fit
    assert (measured.iters, measured.equal, written.fit) == (700, "time", None)
    assert changes(measured, small(tmp_path, "horizon={minutes: 5}")) == ["horizon.equal: time → tokens"]
    assert changes(measured, small(tmp_path, "horizon={minutes: 6, equal: time}")) == ["horizon.minutes: 5 → 6"]


@pytest.mark.parametrize("horizon", ["{iters: 600}", "{minutes: 5, equal: flops}"])
def test_a_resolved_study_can_be_written_and_loaded_again(tmp_path: Path, horizon: str) -> None:
    study = small(tmp_path, f"horizon={horizon}")
    assert small(tmp_path, text=yaml.safe_dump(study.as_written())) == study


def test_trials_are_checked_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"candidates\.1\.warmup_iters: warmup_iters=2500 must be below"):
        small(tmp_path, "horizon={minutes: 5}", "candidates.1.warmup_iters=2500")
    with pytest.raises(SpecError, match=r"candidates\.1: is the same trial as the baseline"):
        small(tmp_path, "horizon={minutes: 5}", "candidates.1.warmup_iters=50")


@pytest.mark.parametrize(
    ("before", "over"),
    [("{iters: 600}", "minutes=5"), ("{minutes: 5, equal: time}", "iters=50"), ("{minutes: 5}", "tokens=1000000")],
)
def test_another_kind_of_horizon_replaces_the_one_there_is(tmp_path: Path, before: str, over: str) -> None:
    key = over.partition("=")[0]
    study = small(tmp_path, f"horizon.{over}", text=TEXT.replace("{iters: 600}", before))
    assert list(study.horizon.model_dump()) == ([key, "equal", "fit"] if key == "minutes" else [key])


# --- the schema ---------------------------------------------------------------------------------------------


def _objects(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [inner for alternative in schema for inner in _objects(alternative)]
    if not isinstance(schema, dict):
        return []
    below = [inner for value in schema.values() for inner in _objects(value)]
    return [schema, *below] if isinstance(schema.get("properties"), dict) else below


def test_every_key_of_the_schema_has_words() -> None:
    objects = _objects(json_schema())
    assert len(objects) > 30
    for schema in objects:
        assert schema["additionalProperties"] is False or "profiles" not in schema["properties"]
        for name, setting in schema["properties"].items():
            assert re.search("[a-z]{3}", setting.get("description", "")), name


def test_the_schema_speaks_trainconfigs_words() -> None:
    setting = json_schema()["$defs"]["Baseline"]["properties"]["weight_decay"]
    assert setting["description"] == "decoupled weight decay of matrices"
    assert (setting["minimum"], setting["maximum"]) == (0.0, 1e3)


def _valid(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Whether `value` is valid by the schema; only the keywords that ours uses are known."""
    if schema is True:
        return True
    known = {"$ref", "anyOf", "oneOf", "type", "properties", "required", "additionalProperties", "items", "const",
             "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minLength",
             "pattern",
             "title", "description", "default", "discriminator", "$schema", "$defs"}  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema and not _valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root):
        return False
    if isinstance(value, dict) and not set(schema.get("required", ())) <= set(value):
        return False
    if "anyOf" in schema and not any(_valid(value, alternative, root) for alternative in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(_valid(value, alternative, root) for alternative in schema["oneOf"]) != 1:
        return False
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match schema.get("type"):
        case None:
            pass
        case "number":
            if not number:
                return False
        case "integer":
            if not number or isinstance(value, float):
                return False
        case kind:
            if not isinstance(value, types[kind]):
                return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if number:
        low, high = schema.get("minimum", -1e300), schema.get("maximum", 1e300)
        above, below = schema.get("exclusiveMinimum", -1e300), schema.get("exclusiveMaximum", 1e300)
        return bool(low <= value <= high and above < value < below)
    if isinstance(value, str):
        return bool(re.search(schema.get("pattern", ""), value)) and len(value) >= schema.get("minLength", 0)
    if isinstance(value, list):
        good = all(_valid(item, schema.get("items", True), root) for item in value)
        return good and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1e300)
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return all(
            _valid(item, properties.get(key, others), root) if properties.get(key, others) else False
            for key, item in value.items()
        )
    return True


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_studies_have_the_schema(path: Path) -> None:
    assert _valid(strict_yaml.read(path).value, json_schema(), json_schema())


GOOD = strict_yaml.load(TEXT, name="x").value


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"data": {"parquet": ["a"], "min_chars": 0}}, True),
        ({"profiles": {"cpu": {"data": {"min_chars": 5}, "hours": None, "candidates": []}}}, True),
        ({"profiles": {"big": {"knobs": {"n_embd": {"high": 256}, "dropout": None}}}}, True),
        ({"profiles": {"big": {"knobs": {"n_embd": {"hgh": 256}}}}}, False),
        ({"horizon": {"iters": 5}}, False),
        ({"horizon": {"iters": 50, "tokens": 50}}, False),
        ({"horizon": {"minutes": 1.5, "equal": "time"}}, True),
        ({"horizon": {"minutes": 5, "equal": "loss"}}, False),
        ({"horizon": {"minutes": 5, "fit": None}}, False),
        ({"horizon": {"minutes": 5, "iters": 50}}, False),
        ({"baseline": {"n_emb": 64}}, False),
        ({"knobs": {"dropout": {"low": 0}}}, False),
        ({"knobs": {"n_head": {"low": 1, "high": 2}}}, False),
        ({"sampler": {"type": "best"}}, False),
        ({"notes": ["a"]}, False),
        ({"trials": 0}, False),
        ({"horizon": ...}, False),
        ({"horizon": ..., "profiles": {"cpu": {"horizon": {"iters": 50}}}}, True),
        ({"workers": {"devices": ["gpu"]}}, False),
        ({"pruner": {"type": "plateau"}}, True),
        ({"pruner": {"type": "plateau", "looks": [0.2, 0.9], "sentinel": 0}}, True),
        ({"pruner": {"type": "plateau", "looks": [0.2, 0.5, 0.9]}}, False),
        ({"pruner": {"type": "plateau", "looks": [0, 0.9]}}, False),
        ({"pruner": {"type": "plateau", "epsilon": 0.6}}, False),
        ({"pruner": {"type": "plateau", "warmup": 0.25}}, False),
        ({"profiles": {"big": {"pruner": {"looks": [0.2, 0.9]}}}}, True),
    ],
)
def test_the_schema_tells_good_from_bad(change: dict[str, Any], valid: bool) -> None:
    document = {key: value for key, value in {**GOOD, **change}.items() if value is not ...}
    assert _valid(document, json_schema(), json_schema()) is valid


@given(st.integers(10, 10**6), st.integers(20, 40))
@settings(deadline=None)
def test_tokens_are_iterations(iters: int, evaluations: int) -> None:
    """A horizon in tokens has the iterations that see these tokens."""
    settings = {**GOOD, "evaluations": evaluations, "horizon": {"tokens": iters * 512}}
    study = Study.model_validate(settings)
    assert study.iters == iters


def test_study_files_are_not_touched(tmp_path: Path) -> None:
    path = study_files.write(tmp_path)
    load(path, overrides=["trials=3"], devices_have_cuda=False)
    assert path.read_text(encoding="utf-8") == TEXT


def test_candidates_without_knobs_are_a_study(tmp_path: Path) -> None:
    text = re.sub(r"knobs:\n(  .*\n)*", "trials: 30\n", TEXT)
    study = small(tmp_path, text=text)
    assert (study.knobs, study.trials, len(study.candidates)) == ({}, 2, 2)
    with pytest.raises(SpecError, match=r"nothing to sweep; add a knob .* or candidates to test"):
        small(tmp_path, "candidates=[]", text=text)
