"""PlateauPruner for anyone's Optuna study, and the decisions that it has taken there."""

from sweeps.pruning.pruner import PlateauPruner, decisions

__all__ = ["PlateauPruner", "decisions"]
