"""One SQLite file: Optuna's tables and ours, and the plain records that are read from it.

May import study, trainer, text, paths and errors. The rooms above import only records, except engine.
"""
