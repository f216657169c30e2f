"""The old place of PlateauPruner, kept for one release: import it from sweeps.pruning.pruner."""

from sweeps.pruning.pruner import PlateauPruner

__all__ = ["PlateauPruner"]
