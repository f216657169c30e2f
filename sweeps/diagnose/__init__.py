"""Diagnose: a training log as runs, what its curve says, and what may hold it back, without a store or a clock.

May import study, pruning, trainer, text, paths and errors. It imports no torch at the top of a file.
"""
