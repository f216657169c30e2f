"""Scale of a study's trials beside the run that they are to speak for."""

from __future__ import annotations

from sweeps.study.baseline import with_heads
from sweeps.study.sections import MinuteHorizon
from sweeps.study.start import CheckpointStart, TrainStart
from sweeps.study.study import Study
from sweeps.text import count
from trainer.config import TrainConfig
from trainer.model.size import parameters

SMALL = 1_000_000
"""parameters of the blocks; a GPT of full size has more, and other losses, noise and best settings"""
SHORT = 10
"""times: a run that is so much longer than its trials is outside of what they can show"""


def scale_of(study: Study) -> str:
    """Return in a line that the trials are a miniature of the user's run, or "".

    They are if the run that the study trains is at most a tenth of the baseline's own max_iters. A branch of the
    user's own checkpoint goes on from the user's run itself.
    """
    if isinstance(study.start, CheckpointStart):
        return ""
    if study.branches:
        assert isinstance(study.start, TrainStart)
        trained = study.start.train.max_iters if study.origin is None else study.origin.step
    elif isinstance(study.horizon, MinuteHorizon) and study.fit is None:
        return ""  # the length isn't known yet
    else:
        trained = study.iters
    own = int(study.baseline["max_iters"])
    if own < SHORT * trained:
        return ""
    config = TrainConfig.from_mapping(with_heads(study.baseline))
    size = parameters(config, vocab_size=0)
    what = "it goes flat after" if study.branches else "a trial has"
    length = f"{what} {trained:,} of the baseline's {own:,} iterations"
    if size < SMALL:
        return (
            f"A miniature: {count(config.n_layer, 'layer')} of width {config.n_embd}; {length}. A run of full size may "
            "be stuck for another reason."
        )
    return f"Short: {length}. It can't show what takes longer."
