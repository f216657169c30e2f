"""The code of the pruner's guide and of the README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence Optuna, and let its default sampler draw the same trials every time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    monkeypatch.setattr(optuna.samplers, "TPESampler", lambda **_: optuna.samplers.RandomSampler(seed=1))


def run(page: str, **names: Any) -> dict[str, Any]:
    """Run the page's only Python block and return its names."""
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(block, page, "exec"), names)  # noqa: S102  # the project's own docs
    return names


def test_the_guides_example_stops_hopeless_trials_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    study: optuna.Study = run("docs/guide/pruner.md")["study"]
    stopped = study.get_trials(states=(TrialState.PRUNED,))
    assert 15 <= len(stopped) < 40
    printed = capsys.readouterr().out
    for trial in stopped:
        assert re.search(rf"^{trial.number} (plateau-and-)?dominated at step {trial.last_step}$", printed, re.MULTILINE)


def test_the_readmes_lines_run_with_an_objective() -> None:
    def objective(trial: optuna.Trial) -> float:
        loss = trial.suggest_float("x", 0, 1)
        trial.report(loss, step=10**9)
        assert not trial.should_prune()
        return loss

    study: optuna.Study = run("README.md", objective=objective)["study"]
    assert len(study.trials) == 40
