"""The JSON objects that commands print with `--json`, field by field. docs/reference/json.md is generated from them.

Losses and effects are in nats per token, an effect above 0 is better, and intervals are two-sided 95 % ones, [low,
high]. Settings have nanoGPT's names and absolute values at the trials' length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict


class EffectJson(TypedDict):
    """An effect and its interval."""

    effect: float | None
    """nats; null: no run to tell"""
    ci: list[float] | None
    """its interval; null: too few seeds for one"""


class TestedJson(EffectJson):
    """An effect that was tested."""

    p: float | None
    """p-value, corrected by Holm's method; null: not tested"""
    n: int
    """seeds that it rests on"""


_FromTo = TypedDict(
    "_FromTo",
    {
        "from": Annotated[Any, "its value in the baseline, in a study of branches in the control"],
        "to": Annotated[Any, "its value in the best config"],
    },
)


class CourseJson(TypedDict):
    """What the curves of branches add to a knob. From scratch all but `protocol` is null."""

    protocol: str
    """branch, or squeezed: short trials from scratch"""
    trend: float | None
    """branches: nats per 100 iterations by which the lead grows at the end"""
    times_as_fast: float | None
    """branches: its fall as a multiple of the control's"""
    at_equal_time: float | None
    """branches: nats by which it leads after equal time"""


class KnobJson(TestedJson, _FromTo, CourseJson):
    """What one knob of the best config does. `effect`, `ci`, `p` and `n` are those of the knob changed alone."""

    name: str
    """nanoGPT's name"""
    verdict: str
    """alone, gains, necessary, joint, hurts, no effect shown, or not enough evidence"""
    necessary: bool
    """whether the best config loses more than half of its gain without it"""
    reset: EffectJson | None
    """what the best config loses without it; null: not run"""
    partner: str | None
    """verdict joint: the other knob; else null"""
    diverged: int
    """runs of the knob alone that diverged or did not fit"""
    more_seeds: int | None
    """further seeds that would decide; null: decided, over 64, or not known"""


class JointJson(TestedJson):
    """The pair that does what neither of its knobs does alone."""

    knobs: list[str]
    """the two knobs"""
    interaction: EffectJson | None
    """what both together gain over the sum of their own gains; null: not run"""


class CandidateJson(TestedJson):
    """What following a piece of advice did."""

    config: dict[str, Any]
    """the settings that it changes, with those that follow from them"""
    verdict: str
    """right, wrong, no effect shown, one run, or not enough evidence"""
    diverged: int
    """seeds at which it diverged or did not fit"""
    more_seeds: int | None
    """further seeds that would decide; null: decided, over 64, or not known"""


class ConfirmedJson(TypedDict):
    """The verdict on runs with fresh seeds: the baseline with the knobs of `change` against the baseline."""

    broken: bool
    """whether the change is shown to be better"""
    word: str
    """breaks, improves, or none"""
    decided: bool
    """whether no number of further seeds could change a word"""
    why: str
    """what keeps it from being shown; empty where it is"""
    headline: list[str]
    """knobs for which something is shown, the largest shown size first"""
    change: list[str]
    """all knobs that the best config changes, or the one that is shown to be better without the others"""
    delta: float | None
    """nats that the change gains; null: no run to tell"""
    ci: list[float] | None
    """its interval; null: too few seeds for one"""
    seeds: list[int]
    """the seeds that it was compared on"""
    min_effect: float
    """nats by which a change must lower the loss to count"""
    knobs: list[KnobJson]
    """each knob of the best config, those of `headline` first"""
    joint: JointJson | None
    """the pair of which a knob says joint; null: there is none"""
    candidates: list[CandidateJson]
    """the advice, the most telling first"""


class StartJson(TypedDict):
    """Where trials start. All but `kind` are null from scratch, and before the origin is known."""

    kind: str
    """scratch, train or checkpoint"""
    step: int | None
    """updates that the origin has done"""
    val_loss: float | None
    """its loss, nats per token"""
    plateau: str | None
    """plateau, improving or undetermined, by the plateau test on its curve; null: no curve"""
    since: int | None
    """first iteration of the plateau; null: it is none"""
    going_on: float | None
    """nats that going on as before brings over a branch's length"""


class NoiseJson(TypedDict):
    """The noise of a comparison, and what the study can show."""

    sd: float | None
    """nats: standard deviation of the baseline's final losses; in branches, of differences at one seed"""
    seeds: int
    """complete runs of the baseline, or the control, that it rests on"""
    horizon: int | None
    """iterations of a trial; null: not known yet"""
    detects: float | None
    """nats: the smallest effect that the confirm phase shows with a chance of 80 %"""


class RaceJson(TypedDict):
    """A change from scratch against the origin's own curve. Gaps are never ranked with gains of branches."""

    change: dict[str, Any]
    """the one changed setting and its value"""
    step: int | None
    """the last evaluation that both share, iterations; null: none"""
    gap: float | None
    """nats by which it is ahead of the origin there"""
    ci: list[float] | None
    """its interval; null: too few seeds for one"""
    growing: bool | None
    """whether the gap is shown to grow (true) or to close (false); null: neither"""
    params: float
    """its parameters as a multiple of the origin's"""
    seconds: float | None
    """its time per step as a multiple of the origin's; null: not measured"""
    at_equal_time: float | None
    """nats by which it is ahead after equal time; null: not measured"""
    n: int
    """its seeds, those that diverged excluded"""
    diverged: int
    """seeds at which it diverged or did not fit"""


class CostJson(TypedDict):
    """What a change costs as a multiple of the baseline's: 1 is the same, null is not known."""

    parameters: float | None
    """parameters"""
    seconds: float | None
    """time a run"""
    memory: float | None
    """memory"""
    gain_at_equal_time: float | None
    """nats gained when both have trained for the same time; null where no curve reaches that far"""


class RowJson(TypedDict):
    """One change and what it does."""

    protocol: str
    """branch, race or trial"""
    knob: str | None
    """nanoGPT's name; null for several changes together"""
    before: str
    """the baseline's value, as written; empty for several changes"""
    after: str
    """the value that was tried; for several changes their names, empty for all that the search's best makes"""
    does: str
    """what it does, in at most five words"""
    effect: float | None
    """nats gained; null: no run to tell"""
    low: float | None
    """its interval's lower end, nats"""
    high: float | None
    """its interval's upper end, nats"""
    seeds: int
    """seeds that it was compared on"""
    shown: bool
    """whether something, good or bad, is shown about it"""
    cost: CostJson | None
    """what it costs; null where it costs the same"""
    edge: str
    """the end of the knob's range that it lies at; empty inside the range"""
    bits_per_byte: float | None
    """the effect in bits per byte of text; null where the bytes per token aren't known"""
    digits: int
    """decimals that effect, low and high carry"""
    measured: str
    """what the effect is of: alone, without it, together or race"""


class AdviceJson(TypedDict):
    """What to do next."""

    kind: str
    """do, dont, unknown or note"""
    text: str
    """one line"""
    command: str
    """to copy into a shell; empty where there is none"""


class AnswerJson(TypedDict):
    """The answer at a glance: what `sweep run` ends with."""

    sentence: str
    """which knob breaks the plateau, by how much, how surely"""
    scale: str
    """that the trials are a miniature of the run; empty where they aren't"""
    rows: list[RowJson]
    """the changes, those that gain most first"""
    advice: list[AdviceJson]
    """what to do next"""


class FoundJson(TypedDict):
    """What a study has found."""

    study: str
    """name of the study"""
    verdict: ConfirmedJson | None
    """null before anything is confirmed"""
    start: StartJson
    """where trials start"""
    noise: NoiseJson
    """the noise of a comparison"""
    races: list[RaceJson]
    """changes from scratch against the origin's curve; empty without races"""
    answer: AnswerJson
    """the answer at a glance"""


class BaselineJson(TypedDict):
    """The baseline's final losses."""

    mean: float
    """nats per token"""
    sd: float | None
    """standard deviation over seeds, nats; null: one seed, or no difference"""
    seeds: int
    """complete runs"""


class BestJson(TypedDict):
    """The search's best complete trial. It is lucky on its own seed: see `verdict` for what is confirmed."""

    trial: int
    """number of the trial in the search's Optuna study"""
    val_loss: float
    """its final validation loss, nats per token"""
    config: dict[str, Any]
    """all of its settings"""


class StudyJson(FoundJson):
    """A study and its state."""

    store: str
    """absolute path of the SQLite file"""
    report: str
    """absolute path of the HTML report"""
    seconds: float
    """time spent on the study over all sessions"""
    trials: dict[str, int]
    """ended runs by outcome, the baseline's seeds and the confirm phase included"""
    baseline: BaselineJson | None
    """null before a run of it is complete"""
    best: BestJson | None
    """null before a trial is complete"""


class StatusJson(StudyJson):
    """A study, also while it runs."""

    planned: int
    """runs of the finished study"""


class PlanMoreJson(TypedDict):
    """What the plan adds up to, and the study that it is for."""

    trials: int
    """all runs, the baseline's seeds included"""
    tokens: int
    """tokens trained on in all runs, nothing pruned"""
    resolved: Mapping[str, Any]
    """the study as a file would have it, every default written out"""


class ReportJson(TypedDict):
    """The report that was written."""

    report: str
    """absolute path of the HTML file"""


class ExportJson(TypedDict):
    """The exported config."""

    trial: int | None
    """number of the exported trial; null: a race is exported"""
    race: str | None
    """the race as --race names it; null: a trial is exported"""
    config: dict[str, Any]
    """the settings of the config file"""
    changed: dict[str, list[Any]]
    """settings that differ from your own config's, or from the baseline's: [from, to]"""
    why: dict[str, str]
    """the reason for each of `changed`"""
    kept: dict[str, Any]
    """settings that are your own config's, or the baseline's"""
    notes: list[str]
    """what to know before training with it"""
    file: str | None
    """absolute path of the config; null without -o"""
    checkpoint: str | None
    """absolute path of ckpt.pt; null without --checkpoint"""
    ladder: list[str]
    """absolute paths of the configs of --ladder"""
    text: str
    """the config file as Python source, with its evidence as comments"""


class InitJson(TypedDict):
    """The study that was written."""

    study: str
    """name of the study"""
    file: str
    """absolute path of the YAML file"""


class DashboardJson(TypedDict):
    """Where the dashboard is served, printed before it is."""

    url: str
    """its address"""
