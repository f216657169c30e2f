"""The mirror holds what Optuna's own storage reads from the file, whoever wrote it, and reads only what's new."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
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

from sweeps.store.mirror import Mirror
from sweeps.store.optuna_storage import Storage

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "share": FloatDistribution(0.0, 0.3, step=0.05),
    "width": IntDistribution(32, 128, step=16),
    "kind": CategoricalDistribution(["a", "b"]),
}
WHICH = st.integers(0, 5)
"""the trial, counted from the last"""
VALUES = st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=5), st.lists(st.floats(), max_size=3))
STATES = st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "enqueue", "queued by another", "asked by another"])),
        st.tuples(st.just("report"), WHICH, st.integers(0, 3), st.floats()),
        st.tuples(st.just("reported by another"), WHICH, st.integers(0, 3), st.floats()),
        st.tuples(st.just("user"), WHICH, st.sampled_from(["lr", "label"]), VALUES),
        st.tuples(st.just("system"), WHICH, st.sampled_from(["rung", "constraints"]), VALUES),
        st.tuples(st.just("state"), WHICH, STATES, st.floats(allow_nan=False)),
        st.tuples(st.just("look")),
    ),
    max_size=14,
)


def seen(trials: list[FrozenTrial]) -> list[dict[str, str]]:
    return [{name: in_words(value) for name, value in vars(trial).items()} for trial in trials]


def in_words(value: Any) -> str:
    """In which NaN is itself."""
    return repr(sorted(value.items()) if isinstance(value, dict) else value)


def act(study: optuna.Study, others: Callable[[], optuna.Study], kind: str, *given: Any) -> None:
    if kind == "ask":
        study.ask(SPACE)
    elif kind == "enqueue":
        study.enqueue_trial({"rate": 1e-3}, user_attrs={"key": (1, 2)})
    elif kind == "queued by another":
        others().enqueue_trial({"width": 48})
    elif kind == "asked by another":
        others().ask(SPACE)
    elif kind == "look":
        study.get_trials(deepcopy=False)
    else:
        which, key, value = given
        trials = study.get_trials(deepcopy=False)
        if which >= len(trials):
            return
        trial_id = trials[-1 - which]._trial_id
        storage = study._storage
        if kind == "report":
            storage.set_trial_intermediate_value(trial_id, key, value)
        elif kind == "reported by another":
            others()._storage.set_trial_intermediate_value(trial_id, key, value)
        elif kind == "user":
            storage.set_trial_user_attr(trial_id, key, value)
        elif kind == "system":
            storage.set_trial_system_attr(trial_id, key, value)
        else:
            values = [value] if key in (TrialState.COMPLETE, TrialState.PRUNED) else None
            storage.set_trial_state_values(trial_id, key, values)


@settings(max_examples=15, deadline=None)
@given(actions=ACTIONS)
def test_it_holds_what_the_file_does(tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[Any, ...]]) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('mirror') / 'study.db'}"
    sampler = optuna.samplers.RandomSampler(seed=0)
    storage = Storage(url)
    study = optuna.create_study(storage=Mirror(storage), study_name="a", sampler=sampler)
    optuna.create_study(storage=storage, study_name="b").ask(SPACE)  # whose trials are no part of it
    plain = RDBStorage(url)

    def others() -> optuna.Study:
        return optuna.load_study(storage=plain, study_name="a", sampler=sampler)  # with an empty cache

    for action in actions:
        # what this process has begun is its own: another that writes to it all the same is not heard
        if action[0] == "reported by another" and study._storage._own:  # type: ignore[attr-defined]
            continue
        with contextlib.suppress(UpdateFinishedTrialError):
            act(study, others, *action)
        assert seen(study.get_trials(deepcopy=False)) == seen(others().get_trials(deepcopy=False))
        for trial in study.get_trials(deepcopy=False):
            assert seen([study._storage.get_trial(trial._trial_id)]) == seen([trial])
    storage.engine.dispose()
    plain.engine.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"sqlite:///{tmp_path / 'study.db'}")


def test_tpe_proposes_what_it_does_over_optunas_own_storage(storage: Storage) -> None:
    def proposals(kept: optuna.storages.BaseStorage) -> list[dict[str, Any]]:
        study = optuna.create_study(storage=kept, study_name="a")
        trials: list[optuna.Trial] = []
        for number in range(30):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=number)
            if number == 20:
                study.enqueue_trial({"rate": 1e-2})
            trials.append(study.ask(SPACE))
            for step in range(3):
                trials[-1].report(trials[-1].params["rate"] / (1 + step), step)
            if number % 3:  # the others are told later
                trial = trials.pop(0)
                if number % 2:
                    study.tell(trial, trial.params["rate"] + trial.params["share"])
                else:
                    if number % 4:
                        trial.set_constraint("fits", 1.0)
                    study.tell(trial, state=TrialState.PRUNED)
        return [trial.params for trial in study.get_trials()]

    assert proposals(Mirror(storage)) == proposals(optuna.storages.InMemoryStorage())


def test_its_own_trials_are_not_read_again(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(storage=Mirror(storage))
    first = study.ask(SPACE)  # the first of a parameter is Optuna's
    for name in ("get_trial", "_get_trials", "get_all_trials"):
        monkeypatch.setattr(RDBStorage, name, None)
    second = study.ask(SPACE)
    second.report(2.0, 0)
    study.tell(first, 1.0)
    study.tell(second, state=TrialState.PRUNED)
    assert [(trial.state.name, trial.value) for trial in study.get_trials()] == [("COMPLETE", 1.0), ("PRUNED", 2.0)]


def test_a_trial_that_was_handed_out_stays_as_it_was(storage: Storage) -> None:
    study = optuna.create_study(storage=Mirror(storage), study_name="a")
    number = study.ask(SPACE)._trial_id
    before = study.get_trials(deepcopy=False)[0]
    study._storage.set_trial_intermediate_value(number, 0, 1.0)
    study._storage.set_trial_user_attr(number, "label", "x")
    study._storage.set_trial_state_values(number, TrialState.COMPLETE, [1.0])
    assert (before.intermediate_values, before.user_attrs, before.state) == ({}, {}, TrialState.RUNNING)
    after = study.get_trials(deepcopy=False)[0]
    assert after is study.get_trials(deepcopy=False)[0]
    assert (after.intermediate_values, after.user_attrs, after.value) == ({0: 1.0}, {"label": "x"}, 1.0)
    assert seen([after]) == seen(optuna.load_study(storage=RDBStorage(storage.url), study_name="a").get_trials())


def test_what_another_process_runs_is_read_anew(storage: Storage) -> None:
    study = optuna.create_study(storage=Mirror(storage), study_name="a")
    study.ask(SPACE)
    other = optuna.load_study(storage=RDBStorage(storage.url), study_name="a")
    theirs = other.ask(SPACE)
    assert [trial.number for trial in study.get_trials()] == [0, 1]
    theirs.report(3.0, 1)
    assert study.get_trials()[1].intermediate_values == {1: 3.0}
    other.tell(theirs, 2.0)
    assert study.get_trials()[1].value == 2.0


def test_a_trial_that_another_process_took_from_the_queue_is_not_begun_twice(storage: Storage) -> None:
    study = optuna.create_study(storage=Mirror(storage), study_name="a")
    study.enqueue_trial({"rate": 1e-3})
    waiting = study.get_trials(deepcopy=False)[0]
    optuna.load_study(storage=RDBStorage(storage.url), study_name="a").ask()
    assert not study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
    assert study.ask().number == 1
