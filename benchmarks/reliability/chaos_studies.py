"""The studies that `benchmarks.reliability.chaos` disturbs, one per way to start, of runs that take a second or two.

What a sweep does next may depend on which of two workers was faster. So the study from scratch, which has a sampler, a
pruner and a confirm phase, has one worker. The study of branches has two, and all its trials are known beforehand.
"""

from __future__ import annotations

_COMMON = """
data: {{bin: {data}}}
baseline:
  {{n_layer: 1, n_head: 1, n_embd: 16, block_size: 16, batch_size: 4, gradient_accumulation_steps: 1,
   learning_rate: 3.0e-3, min_lr: 3.0e-4, warmup_iters: 10, max_iters: 80, lr_decay_iters: 80, dropout: 0.1}}
evaluations: 20
final_windows: 64
"""

_SCRATCH = """
name: scratch
horizon: {{iters: 80}}
knobs:
  learning_rate: {{low: 3.0e-4, high: 3.0e-2, log: true}}
  dropout: {{low: 0.0, high: 0.4}}
  weight_decay: {{low: 1.0e-3, high: 0.5, log: true}}
baseline_seeds: 2
trials: 16
sampler: {{type: tpe}}
pruner: {{type: plateau, min_completed: 3}}
confirm: {{seeds: 2, max_trials: 6}}
workers: {{devices: [cpu]}}
"""

_BRANCHES = """
name: branches
start: {{train: {{max_iters: 100}}}}
horizon: {{iters: 80}}
knobs:
  learning_rate: {{low: 3.0e-4, high: 3.0e-2, log: true}}
  dropout: {{low: 0.0, high: 0.4}}
  weight_decay: {{low: 1.0e-3, high: 0.5, log: true}}
candidates:
{candidates}
baseline_seeds: 2
trials: {trials}
sampler: {{type: random}}
pruner: {{type: none}}
confirm: {{max_trials: 0}}
workers: {{devices: [cpu, cpu]}}
"""
_RATES = (5.0e-4, 1.0e-3, 2.0e-3, 5.0e-3)
_DROPOUTS = (0.0, 0.05, 0.2, 0.3)
_SINGLE_KNOB_TRIALS = 6
"""both ends of three knobs"""


def studies(data: str) -> dict[str, str]:
    """Return the YAML of each study by its name. `data` is the folder of their tokens."""
    candidates = [f"  - {{learning_rate: {rate:.1e}, dropout: {drop}}}" for rate in _RATES for drop in _DROPOUTS]
    few = candidates[:12]
    branches = _BRANCHES.format(candidates="\n".join(few), trials=len(few) + _SINGLE_KNOB_TRIALS)
    return {"scratch": _SCRATCH.format() + _COMMON.format(data=data), "branches": branches + _COMMON.format(data=data)}
