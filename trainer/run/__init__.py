"""One run from its config to its result: the loop, sampling, checkpoints, resuming.

May import machine, model, data and everything below them.
"""
