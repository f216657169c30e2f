"""Training of one small GPT, compatible with nanoGPT. This package knows nothing of sweeps.

The rooms, uppermost first: run, machine, model, data. Below them lie strict_yaml, points, schedule, config, nanogpt,
atomic and errors.
"""
