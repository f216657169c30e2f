"""The search space of a study in Optuna's terms."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.study.baseline import WHOLE
from sweeps.study.knobs import PARAM, ChoicesKnob
from sweeps.study.study import Study

Space = dict[str, BaseDistribution]
"""distributions by parameter name"""


def distributions(study: Study) -> Space:
    """Return the distribution of each of Optuna's parameters, by name."""
    space: Space = {}
    for name, knob in study.sampled.items():
        param = PARAM.get(name, name)
        if isinstance(knob, ChoicesKnob):
            space[param] = CategoricalDistribution(knob.choices)
        elif name in WHOLE and name not in PARAM:
            space[param] = IntDistribution(int(knob.low), int(knob.high), log=knob.log, step=int(knob.step or 1))
        else:
            step = None if knob.step is None else float(knob.step)
            space[param] = FloatDistribution(float(knob.low), float(knob.high), log=knob.log, step=step)
    return space
