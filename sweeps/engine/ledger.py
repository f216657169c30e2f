"""The ledger: a study's runs in memory, in our tables and in Optuna.

It owns the order of writing, so that a sweep can be resumed after being killed between any two writes:

- Optuna's trial before our run. On resuming, a trial without a run gets one.
- Points before reports. On resuming, points that Optuna lacks are reported.
- A pruning decision before its worker hears of it, and why it was made. No decision is made twice.
- Our outcome before Optuna's. On resuming, outcomes that Optuna lacks are told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.engine import progress, provenance
from sweeps.engine.decisions import decisions_of
from sweeps.engine.optuna_trials import Asked, OptunaTrials
from sweeps.errors import SpecError, StoreError
from sweeps.paths import StudyPaths
from sweeps.store.records import FALLBACKS, Outcome, Pruning, Results, Run, best_of
from sweeps.store.store import Store
from sweeps.study.proposals import ParamValue, Proposal, config_of
from sweeps.study.study import Study
from sweeps.text import joined
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import UserError
from trainer.machine.microbatch import shape_of
from trainer.points import Point, Result
from trainer.schedule import evaluation_of

MOST_REFUSED = 50
"""consecutive proposals of the sampler that are refused because their shape didn't fit; the next is run all the same"""


@dataclass
class Flight:
    """A run without an outcome, and its Optuna trial."""

    run: Run
    asked: Asked | None
    """None: Optuna's trial has ended, as that of a halted run that goes on has"""
    attempt: int = 0
    """launches so far"""
    step: int = 0
    """updates done when the run ended"""
    failures: int = 0
    """crashes in this session"""
    halting: str = ""
    """why the run is ending where it was meant to; empty: it isn't"""
    heard: float = 0.0
    """seconds that the driver had listened by its worker's last message"""
    spoken: bool = False
    """whether its worker has sent a message since the launch"""
    pulsing: bool = False
    """whether its worker tells of each step"""
    stopped: bool = False
    """whether its worker's process was stopped when it was last looked at"""
    points: list[Point] = field(default_factory=list)
    """the points in the store"""

    @property
    def last_step(self) -> int:
        """Step of the last point in the store; -1: there is none."""
        return self.points[-1].step if self.points else -1

    def evaluation(self, step: int) -> int:
        """Return the number of the first evaluation at or after `step`, on the grid that all batch sizes share."""
        return evaluation_of(step, self.run.config)


def new_run(
    *,
    optuna_study: str,
    trial: int,
    params: Mapping[str, ParamValue],
    config: TrainConfig,
    proposal: Proposal | None,
) -> Run:
    """Return a run that is about to start, without an id. Without a proposal its trial is the sampler's."""
    return Run(
        id=0,
        optuna_study=optuna_study,
        trial=trial,
        seed=config.seed,
        phase=proposal.phase if proposal else "search",
        origin=proposal.origin if proposal else "sampler",
        label=proposal.label if proposal else f"trial {trial}",
        knob=proposal.knob if proposal else None,
        params=params,
        config=config,
        device="",
        outcome=Outcome.RUNNING,
        reason="",
        val_loss=None,
        val_se=None,
        seconds=0.0,
        points=(),
        key=proposal.key if proposal else f"trial:{trial}",
    )


class Ledger:
    """The record of one study's runs, the same in memory, in our tables and in Optuna."""

    def __init__(self, stored: Results, store: Store, paths: StudyPaths, dataset: Dataset) -> None:
        self.study: Study = stored.study
        self.runs: dict[int, Run] = {run.id: run for run in stored.runs}
        self.outcomes_changed = 0
        """times that a run has begun or ended; until it grows, whatever depends on outcomes alone stays valid"""
        self.invalid = ""
        """why the last proposal that couldn't be run couldn't"""
        self._store, self._paths, self._dataset = store, paths, dataset
        self._trials = OptunaTrials(self.study, store.storage)
        self._check_optunas_trials(stored)
        self._decisions = decisions_of(self.study)
        self._versions, self._commit = provenance.versions(), provenance.commit()

    @property
    def best(self) -> Run | None:
        """The search's best complete run."""
        return best_of(self.runs.values(), search=self.study.name)

    # unfinished runs of earlier sessions

    def unfinished(self) -> Iterator[tuple[Asked, Run | None]]:
        """Yield the trials that earlier sessions left unfinished, with their runs; None: no run was written."""
        of_trial = {(run.optuna_study, run.trial): run for run in self.runs.values()}
        for asked in self._trials.unfinished():
            yield asked, of_trial.get((asked.optuna_study, asked.number))

    def going_on(self, known: Collection[int]) -> list[Run]:
        """Return unfinished runs that are not among the `known` ids: halted runs that had gone on."""
        return [run for run in self.runs.values() if run.unfinished and run.id not in known]

    def resume(self, asked: Asked | None, run: Run) -> Flight | None:
        """Resume the run of an unfinished trial; None: the run had ended, and now Optuna has been told."""
        launch = self._store.launches(self.study.name)[run.id]
        flight = Flight(run, asked, attempt=launch.attempt, step=launch.step, points=list(run.points))
        for point in flight.points:
            self._report(flight, point)
        if run.unfinished or asked is None:
            return flight
        self._tell(flight)
        return None

    def _check_optunas_trials(self, stored: Results) -> None:
        """Raise StoreError where Optuna lacks trials of our runs, because someone has deleted its study."""
        held = self._trials.counts()
        lost = sorted({run.optuna_study for run in stored.runs if run.trial >= held[run.optuna_study]})
        if lost:
            raise StoreError(
                f"{self._store.path}: trials of Optuna's study {joined(map(repr, lost))} have been deleted, in "
                "optuna-dashboard or by a program; restore the file from a copy, or start the study in another folder "
                f"with --out. `{stored.command('report')}` still shows its {len(stored.runs)} runs"
            )

    def adopt(self, run: Run, proposal: Proposal) -> None:
        """Make an ended run the run of a proposal that hasn't begun, under a trial of its own, as if it had run so.

        Killed anywhere in between, it can be done again.
        """
        for former, of_trial in self.unfinished():
            if of_trial is not None and of_trial.id == run.id:
                self.resume(former, of_trial)  # the run's former trial must not look as if it had no run
        asked = self._asked(proposal.key)
        if asked is None:
            self._trials.ask(proposal)  # which may have begun a trial of the user's queue instead, and queued this one
            asked = self._asked(proposal.key)
        assert asked is not None
        adopted = dataclasses.replace(
            run,
            optuna_study=asked.optuna_study,
            trial=asked.number,
            phase=proposal.phase,
            origin=proposal.origin,
            label=proposal.label,
            params=asked.params,
            key=proposal.key,
        )
        self._store.adopted(adopted)
        self.runs[run.id] = adopted
        self.resume(asked, adopted)

    def _asked(self, key: str) -> Asked | None:
        """Return the running trial of a proposal. None: it isn't running."""
        return next((asked for asked in self._trials.unfinished() if asked.key == key), None)

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints that are no longer needed."""
        self._drop_checkpoints(*self.runs.values())

    # the start of a run

    def queued(self) -> bool:
        """Whether the user has queued a trial of the search that has not begun."""
        return self._trials.queued()

    def ask(self, proposal: Proposal) -> Flight:
        """Begin the run of a proposal."""
        return self._begin(self._trials.ask(proposal), proposal.config, proposal)

    def ask_sampler(self) -> Flight:
        """Begin the next trial of the user's queue, or else the sampler's.

        A trial whose shape didn't fit into memory before ends as infeasible at once, one whose parameters make no valid
        config as failed, and another is asked for. Such outcomes make a sampler propose the shape less often, but not
        never. Raises SpecError where trial after trial makes no valid config.
        """
        runs = self.runs.values()
        too_large = {shape_of(run.config) for run in runs if run.outcome == Outcome.INFEASIBLE}
        if too_large:
            too_large -= {shape_of(run.config) for run in runs if run.outcome == Outcome.COMPLETE}
        for last in [*[False] * MOST_REFUSED, True]:
            asked = self._trials.ask()
            config = self._config(asked)
            if config is None:
                continue
            if last or shape_of(config) not in too_large:
                return self._begin(asked, config, None)
            reason = f"n_embd={config.n_embd}, n_layer={config.n_layer} ran out of memory in an earlier trial"
            self._refuse(asked, Outcome.INFEASIBLE, reason, label=reason)
        raise SpecError(f"{MOST_REFUSED} proposals in a row make no trial that can be run; the last: {self.invalid}")

    def begin(self, asked: Asked, proposal: Proposal | None) -> Flight | None:
        """Write the run of a trial that has none. None: its parameters make no valid config, and it has ended."""
        config = proposal.config if proposal else self._config(asked)
        return None if config is None else self._begin(asked, config, proposal)

    def _begin(self, asked: Asked, config: TrainConfig, proposal: Proposal | None) -> Flight:
        """Write a run. Its folder may hold a checkpoint of another study, whose store was deleted; that is dropped."""
        run = new_run(
            optuna_study=asked.optuna_study,
            trial=asked.number,
            params=asked.params,
            config=config,
            proposal=proposal,
        )
        run = self._store.add_run(
            self.study.name,
            run,
            fingerprint=self._dataset.fingerprint,
            versions=self._versions,
            commit=self._commit,
        )
        self._paths.drop_checkpoint(run.id)
        flight = Flight(run, asked)
        self._update(flight, outcome=Outcome.RUNNING)
        return flight

    def _config(self, asked: Asked) -> TrainConfig | None:
        """Return a sampled trial's config. None: there is no valid one, so the trial has ended as failed."""
        try:
            return config_of(self.study, asked.params, seed=self.study.seed, vocab_size=self._dataset.vocab_size)
        except UserError as error:
            self.invalid = str(error)
            self._refuse(asked, Outcome.FAILED, self.invalid)
            self.note("failed", f"trial {asked.number} can't be run and is left out: {self.invalid}")
            return None

    def _refuse(self, asked: Asked, outcome: Outcome, reason: str, **attrs: str) -> None:
        """End a trial without running it."""
        self._trials.tell(asked, outcome=outcome, reason=reason, val_loss=None, index=0, attrs=attrs)

    # a run in flight

    def launch(self, flight: Flight, *, device: str, kind: str) -> None:
        """Record that the run starts or resumes on a device of a kind."""
        flight.attempt += 1
        self._paths.drop_half_written(flight.run.id)
        earlier = flight.run.kinds if flight.points else ()  # without a point there is no checkpoint to go on from
        kinds = earlier if earlier[-1:] == (kind,) else (*earlier, kind)
        self._update(flight, device=device, kinds=kinds, outcome=Outcome.RUNNING, reason="")
        self._store.launched(flight.run.id, device=device, kinds=kinds, attempt=flight.attempt)

    def add_points(self, points: Sequence[tuple[Flight, Point]], *, seconds: float) -> None:
        """Write new points of several flights, and the seconds that the study has taken so far."""
        self._store.add_points(
            [(flight.run.id, point) for flight, point in points], name=self.study.name, seconds=seconds
        )

    def report(self, flight: Flight, point: Point) -> None:
        """Add a point that has been written, and report its loss to Optuna."""
        flight.points.append(point)
        self._update(flight, points=tuple(flight.points), seconds=point.seconds)
        self._report(flight, point)

    def _report(self, flight: Flight, point: Point) -> None:
        if flight.asked is None:
            return
        self._trials.report(flight.asked, index=flight.evaluation(point.step), value=point.val_loss)

    def decide(self, flight: Flight) -> Pruning | None:
        """Return the pruner's decision against a run of the search at its last point, and write it; None: go on.

        A decision is final: asked again, even after a crash, the answer is the same.
        """
        if flight.run.pruning is None and self._decisions is not None:
            decision = self._decisions.decide(flight.run, self.runs.values())
            if decision is not None:
                self._store.decided(self.study.name, flight.run.id, decision)
                self._update(flight, pruning=decision)
        return flight.run.pruning

    # the end of a run

    def pause(self, flight: Flight, *, seconds: float) -> None:
        """Record that the run has paused, to be resumed by another session."""
        self._update(flight, seconds=seconds)

    def end(self, flight: Flight, outcome: Outcome, reason: str, result: Result) -> None:
        """Write the run's outcome. A truncated run's trial stays open, to resume when the study gets more hours."""
        former_best = best_of((run for run in self.runs.values() if run.id != flight.run.id), search=self.study.name)
        flight.step = result.step
        losses = {"val_loss": result.val_loss, "val_se": result.val_se}
        self._update(flight, outcome=outcome, reason=reason, seconds=result.seconds, **losses)
        self._store.ended(
            flight.run.id,
            outcome=outcome,
            reason=reason,
            step=result.step,
            seconds=result.seconds,
            pruning=flight.run.pruning,
            **losses,
        )
        if outcome != Outcome.COMPLETE:
            self.note(outcome, reason, flight.run)
        if outcome != Outcome.TRUNCATED:
            self._tell(flight)
        self._drop_checkpoints(flight.run, *([former_best] if former_best else []))

    def _tell(self, flight: Flight) -> None:
        run = flight.run
        if flight.asked is None:
            return
        self._trials.tell(
            flight.asked,
            outcome=run.outcome,
            reason=run.reason,
            val_loss=run.val_loss,
            index=flight.evaluation(flight.step),
            attrs={"run": run.id, "label": run.label, "origin": run.origin, "val_se": run.val_se},
        )

    def _drop_checkpoints(self, *runs: Run) -> None:
        best = self.best
        for run in runs:
            if not progress.keeps_checkpoint(run, best=best):
                self._paths.drop_checkpoint(run.id)

    # the study

    def note(self, kind: str, text: str, run: Run | None = None) -> None:
        """Write an event of the study, or of one of its runs."""
        self._store.add_event(self.study.name, kind, text, run=None if run is None else run.id)

    def fall_back(self, text: str, run: Run) -> None:
        """Write that a worker does something the plain way, as an event of the run and for the report."""
        self.note("fallback", text, run)
        self._store.add_provenance(self.study.name, FALLBACKS, text)

    def close(self, *, seconds: float) -> None:
        """Write the seconds that the study has taken, over all its sessions."""
        self._store.update_study(self.study.name, seconds=seconds)

    def _update(self, flight: Flight, **changed: Any) -> None:
        flight.run = dataclasses.replace(flight.run, **changed)
        self.runs[flight.run.id] = flight.run
        self.outcomes_changed += "outcome" in changed
