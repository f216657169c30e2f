"""The page, its figures, and what optuna-dashboard shows.

May import everything but cli, engine and terminal.
"""
