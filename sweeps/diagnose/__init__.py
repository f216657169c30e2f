"""Diagnose: a training log as runs with points, and what its curve says, without a model, a store or a clock.

May import pruning, trainer, text, paths and errors. It imports no torch.
"""
