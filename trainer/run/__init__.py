"""One training run, from its config to its result: the loop, sampling, checkpoints and resuming.

May import machine, model, data and everything below them.
"""
