"""The law of a loss curve, the plateau test, the forecast and the pruning rule: arrays in, decisions out.

Only pruner.py knows Optuna, and it serves any Optuna study. May import nothing else of this project.
"""
