"""Pruning: the law of a loss curve, the plateau test, the forecast and the pruning rule. Arrays in, decisions out.

Only pruner.py imports Optuna, and it works in any Optuna study. This room imports nothing else of this project.
"""
