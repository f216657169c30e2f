"""Our storage does what Optuna's own does, whatever is written to it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from sweeps.store.optuna_storage import Storage

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "width": IntDistribution(32, 128, step=16),
    "kind": CategoricalDistribution(["a", "b"]),
}
LOSSES = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.sampled_from(["lr", "label", "reason"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), lambda each: st.lists(each, max_size=3)
)
WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("value"), st.integers(0, 4), LOSSES),
        st.tuples(st.just("user"), NAMES, VALUES),
        st.tuples(st.just("system"), NAMES, VALUES),
    ),
    max_size=12,
)


ENDS = st.one_of(
    st.tuples(st.sampled_from([TrialState.PRUNED, TrialState.FAIL]), st.none()),
    st.tuples(st.just(TrialState.COMPLETE), st.floats(allow_nan=False)),
    st.none(),
)


def written(
    storage: RDBStorage, writes: list[tuple[str, Any, Any]], end: tuple[TrialState, float | None] | None
) -> FrozenTrial:
    """The second of two trials after the writes, and its end."""
    optuna.create_study(storage=storage).ask()  # whose trials count apart
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(2):  # Optuna's cache knows a parameter after the first
        trial = study.ask(SPACE)
    for kind, key, value in writes:
        if kind == "value":
            storage.set_trial_intermediate_value(trial._trial_id, key, value)
        elif kind == "user":
            storage.set_trial_user_attr(trial._trial_id, key, value)
        else:
            storage.set_trial_system_attr(trial._trial_id, key, value)
    if end is not None:
        state, told = end
        values = None if told is None else [told]
        if not isinstance(storage, Storage):
            storage.set_trial_state_values(trial._trial_id, state, values)
        else:
            assert storage.end(trial._trial_id, state, values) is not None
            assert storage.end(trial._trial_id, TrialState.FAIL, [0.0]) is None  # it stays as it ended
    found: FrozenTrial = study.get_trials()[-1]
    return found


@settings(max_examples=15, deadline=None)
@given(writes=WRITES, end=ENDS)
def test_it_holds_what_optunas_own_would(
    tmp_path_factory: pytest.TempPathFactory, writes: list[Any], end: tuple[TrialState, float | None] | None
) -> None:
    folder = tmp_path_factory.mktemp("both")
    ours, theirs = (written(kind(f"sqlite:///{folder / kind.__name__}"), writes, end) for kind in (Storage, RDBStorage))
    assert (ours.number, ours.state, ours.values) == (theirs.number, theirs.state, theirs.values)
    for name in ("datetime_start", "datetime_complete"):
        times = [getattr(trial, name) for trial in (ours, theirs)]
        assert times == [None, None] or 0 <= (times[1] - times[0]).total_seconds() < 60
    assert ours.params == theirs.params
    assert ours.distributions == theirs.distributions == SPACE
    assert ours.user_attrs == theirs.user_attrs
    assert ours.system_attrs == theirs.system_attrs
    assert ours.intermediate_values.keys() == theirs.intermediate_values.keys()
    for step, value in ours.intermediate_values.items():
        other = theirs.intermediate_values[step]
        assert value == other or (math.isnan(value) and math.isnan(other))


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return optuna.create_study(storage=Storage(f"sqlite:///{tmp_path / 'study.db'}"))


def test_the_ordinary_is_one_statement(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.ask(SPACE)  # the first of a parameter is Optuna's
    for name in (
        "set_trial_intermediate_value",
        "set_trial_user_attr",
        "set_trial_system_attr",
        "_set_trial_param",
        "_create_new_trial",
    ):
        monkeypatch.setattr(RDBStorage, name, None)
    trial = study.ask(SPACE)
    trial.report(3.0, 1)
    trial.set_user_attr("label", "x")
    study._storage.set_trial_system_attr(trial._trial_id, "rung", 2)
    found = study.get_trials()[-1]
    assert (found.intermediate_values, found.user_attrs, found.system_attrs) == ({1: 3.0}, {"label": "x"}, {"rung": 2})
    assert found.params.keys() == SPACE.keys()


def test_a_trial_that_has_ended_takes_nothing_more(study: optuna.Study) -> None:
    trial = study.ask(SPACE)
    study.tell(trial, 1.0)
    storage, number = study._storage, trial._trial_id
    for write in (
        lambda: storage.set_trial_intermediate_value(number, 0, 1.0),
        lambda: storage.set_trial_user_attr(number, "label", "x"),
        lambda: storage.set_trial_system_attr(number, "rung", 1),
        lambda: storage.set_trial_param(number, "rate", 1e-3, SPACE["rate"]),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            write()
    found = study.get_trials()[0]
    assert (found.intermediate_values, found.user_attrs, found.system_attrs) == ({}, {}, {})


def test_a_trial_that_is_not_there(study: optuna.Study) -> None:
    with pytest.raises(KeyError):
        study._storage.set_trial_user_attr(99, "label", "x")


def test_a_trial_of_a_study_that_is_not_there(study: optuna.Study) -> None:
    with pytest.raises(KeyError):
        study._storage.create_new_trial(99)


def test_another_kind_of_distribution_is_refused_as_by_optuna(study: optuna.Study) -> None:
    study.ask(SPACE)
    with pytest.raises(ValueError, match="distribution"):
        study.ask({"rate": CategoricalDistribution([1, 2])})


def test_what_waits_is_seen(study: optuna.Study) -> None:
    storage = study._storage._backend  # type: ignore[attr-defined]  # behind Optuna's cache
    assert not storage.waits(study._study_id)
    study.enqueue_trial({"rate": 1e-3})
    assert storage.waits(study._study_id)
    assert not storage.waits(study._study_id + 1)
    study.ask()
    assert not storage.waits(study._study_id)
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING]
