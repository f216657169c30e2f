"""What a study has to run, in its order, and how a trial becomes a run in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sweeps.analysis.arms import PHASE, Arms
from sweeps.analysis.evidence import Evidence
from sweeps.engine import confirm, provenance
from sweeps.engine.combined import combined_proposals
from sweeps.engine.optuna_trials import Asked, OptunaTrials
from sweeps.store import records
from sweeps.store.records import DataFacts, Outcome, Results, Run
from sweeps.store.store import Store
from sweeps.study import proposals
from sweeps.study.proposals import Proposal
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import UserError
from trainer.machine.microbatch import shape_of
from trainer.points import Point
from trainer.schedule import evaluation_of, learning_rates


@dataclass
class Flight:
    """A run that has no outcome yet, and its trial."""

    run: Run
    asked: Asked
    attempt: int = 0
    """launches so far"""
    step: int = 0
    """updates done when it ended"""
    failures: int = 0
    """crashes in this session"""
    heard: float = 0.0
    """the clock when its worker last said something"""
    points: list[Point] = field(default_factory=list)
    """those in the store"""

    @property
    def last_step(self) -> int:
        return self.points[-1].step if self.points else -1

    def index(self, step: int) -> int:
        """The evaluation at `step`, or the next one after it: one grid for all trials, whatever their batch."""
        return evaluation_of(step, self.run.config)


MOST_REFUSED = 50
"""proposals in a row whose shape is known not to fit, before one is run all the same"""


class Agenda:
    """The baseline's seeds, the candidates, the star, what it suggests, the sampler's trials until there are enough.

    Then, when all of these have ended, what would confirm or refute the search's best.
    """

    def __init__(self, study: Study, store: Store, dataset: Dataset) -> None:
        self._study, self._store, self._dataset = study, store, dataset
        self._commit = provenance.commit()
        self.trials = OptunaTrials(study, store.storage)
        vocab_size = dataset.vocab_size
        baseline = proposals.baseline_proposals(study, vocab_size=vocab_size)
        designed = [
            *proposals.candidate_proposals(study, vocab_size=vocab_size),
            *proposals.star_proposals(study, vocab_size=vocab_size),
        ]
        self.baseline = baseline[0].config
        self._searching = len(baseline) + study.trials
        self.left_out = max(0, len(designed) - study.trials)
        """candidates and single-knob trials that `trials` has no room for"""
        self._proposals = [*baseline, *designed[: study.trials]]
        self._by_key = {proposal.key: proposal for proposal in [*baseline, *designed]}
        self._searched = 0
        self._known: set[str] = set()
        self._arms: Arms | None = None
        self._judged: tuple[tuple[int, str], ...] = ()
        self._wish: Proposal | None = None

    def take_up(self, runs: dict[int, Run]) -> list[Flight]:
        """Flights for the trials that an earlier session left unfinished, from the runs that the store has."""
        launches = self._store.launches(self._study.name)
        of_trial = {(run.optuna_study, run.trial): run for run in runs.values()}
        self._searched = sum(run.phase == "search" for run in runs.values())
        flights = []
        for asked in self.trials.unfinished():
            run = of_trial.get((asked.optuna_study, asked.number))
            if run is None:  # killed between the trial and its run
                flights.append(self._begin(asked, runs=runs))
                continue
            self.trials.begin(asked, rates=learning_rates(run.config))
            launch = launches[run.id]
            flight = Flight(run, asked, attempt=launch.attempt, step=launch.step, points=list(run.points))
            for point in flight.points:  # killed between our point and Optuna's report of it
                self.trials.report(asked, index=flight.index(point.step), value=point.val_loss)
            flights.append(flight)
        confirmed = {run.config for run in runs.values() if run.phase == PHASE}
        there = {proposal.key for proposal in self._proposals if proposal.config in confirmed}
        self._known = self.trials.keys() | there  # further seeds of the baseline that the confirm phase has run
        self._searching -= len(there)
        return flights

    def planned(self, runs: Iterable[Run]) -> int:
        """Runs of the study when it is finished; of the confirm phase the most that there may be, till it is over."""
        runs, most = list(runs), self._study.confirm.max_trials
        return self._searching + confirm.planned(runs, most=most, over=lambda: self.empty(runs))

    def empty(self, runs: Iterable[Run]) -> bool:
        """Whether there is nothing new to run, as far as the runs of the study can tell."""
        return self._proposal() is None and not self._room() and self._to_confirm(list(runs)) is None

    def next(self, runs: Mapping[int, Run]) -> Flight | None:
        """Ask for the next trial and make it a run; None: nothing now. What the user has queued goes first."""
        proposal = None if self._room() and self.trials.queued() else self._proposal() or self._combined(runs)
        if proposal is None and not self._room():
            proposal = self._to_confirm(list(runs.values()))
            if proposal is None:
                return None
        if proposal is not None:
            self._known.add(proposal.key)
            return self._begin(self.trials.ask(proposal), runs=runs)
        return self._begin(self._ask_for_one_that_fits(runs), runs=runs)

    def _ask_for_one_that_fits(self, runs: Mapping[int, Run]) -> Asked:
        """The sampler's next trial. One whose shape had no memory before is told so at once, and another asked for:
        being told makes a sampler ask for such trials less often, not never."""
        lost = {shape_of(run.config) for run in runs.values() if run.outcome == Outcome.INFEASIBLE}
        if lost:
            lost -= {shape_of(run.config) for run in runs.values() if run.outcome == Outcome.COMPLETE}
        for _ in range(MOST_REFUSED if lost else 0):
            asked = self.trials.ask(None)
            if asked.key is not None:
                return asked
            try:
                config = self._config(asked)
            except UserError:
                return asked  # said where the run begins
            if shape_of(config) not in lost:
                return asked
            reason = f"n_embd={config.n_embd}, n_layer={config.n_layer} had no memory in an earlier trial"
            attrs = {"label": reason}
            self.trials.tell(asked, outcome=Outcome.INFEASIBLE, reason=reason, val_loss=None, index=0, attrs=attrs)
        return self.trials.ask(None)

    def _to_confirm(self, runs: list[Run]) -> Proposal | None:
        """The next run of the confirm phase; None also while a run of the search is on its way: it may be the best."""
        searching = any(run.phase != PHASE and run.unfinished for run in runs)
        if searching or sum(run.phase == PHASE for run in runs) >= self._study.confirm.max_trials:
            return None
        # what is asked twice a second changes only when a run is begun or ends
        judged = tuple((run.id, run.outcome) for run in runs)
        if judged != self._judged:
            evidence = self._evidence(runs)
            wish = confirm.next_run(evidence)
            self._judged, self._wish = judged, None if wish is None else evidence.arms.proposal(*wish)
        return self._wish

    def _evidence(self, runs: list[Run]) -> Evidence:
        facts = DataFacts.of(self._dataset)
        results = Results(study=self._study, data=facts, runs=tuple(runs), provenance={}, seconds=0.0)
        return Evidence(results, self._arms_of(records.best_of(runs, search=self._study.name)))

    def _arms_of(self, best: Run | None) -> Arms:
        """The best trial's arms, which are the same until another is the best."""
        if self._arms is None or self._arms.best != best:
            self._arms = Arms(self._study, best, vocab_size=self._dataset.vocab_size)
        return self._arms

    def _room(self) -> bool:
        return self._searched < self._study.trials

    def _proposal(self) -> Proposal | None:
        open_phases = ("baseline", "search") if self._room() else ("baseline",)
        for proposal in self._proposals:
            if proposal.key not in self._known and proposal.phase in open_phases:
                return proposal
        return None

    def _combined(self, runs: Mapping[int, Run]) -> Proposal | None:
        """The next of those that the star suggests, once all of it has been begun and has ended."""
        suggested = self._suggested(runs) if self._room() else []
        return next((proposal for proposal in suggested if proposal.key not in self._known), None)

    def _suggested(self, runs: Mapping[int, Run]) -> list[Proposal]:
        screening = [run for run in runs.values() if run.origin in ("baseline", "star")]
        if any(run.unfinished for run in screening):
            return []
        return combined_proposals(self._study, screening, vocab_size=self._dataset.vocab_size)

    def _begin(self, asked: Asked, *, runs: Mapping[int, Run]) -> Flight:
        """Write down the run of a trial that has none."""
        key = asked.key or ""
        proposal = self._by_key.get(key) or self._confirming(key, runs)
        if proposal is None and key:
            proposal = next((each for each in self._suggested(runs) if each.key == key), None)
        try:
            config = proposal.config if proposal else self._config(asked)
        except UserError as error:
            self.trials.tell(asked, outcome=Outcome.FAILED, reason=str(error), val_loss=None, index=0, attrs={})
            raise
        self.trials.begin(asked, rates=learning_rates(config))
        run = Run(
            id=0,
            optuna_study=asked.optuna_study,
            trial=asked.number,
            seed=config.seed,
            phase=proposal.phase if proposal else "search",
            origin=proposal.origin if proposal else "sampler",
            label=proposal.label if proposal else f"trial {asked.number}",
            knob=proposal.knob if proposal else None,
            params=asked.params,
            config=config,
            device="",
            outcome=Outcome.RUNNING,
            reason="",
            val_loss=None,
            val_se=None,
            seconds=0.0,
            points=(),
        )
        run = self._store.add_run(
            self._study.name,
            run,
            key=asked.key or f"trial:{asked.number}",
            fingerprint=self._dataset.fingerprint,
            versions=provenance.versions(),
            commit=self._commit,
        )
        self._searched += run.phase == "search"
        return Flight(run, asked)

    def _confirming(self, key: str, runs: Mapping[int, Run]) -> Proposal | None:
        """The proposal of the confirm phase that a trial's key names."""
        return self._arms_of(records.best_of(runs.values(), search=self._study.name)).proposed(key)

    def _config(self, asked: Asked) -> TrainConfig:
        return proposals.config_of(
            self._study, asked.params, seed=self._study.seed, vocab_size=self._dataset.vocab_size
        )
