"""The loop: what runs next, on which worker, when it is pruned, and where it is written down.

May import analysis, store, workers, study and pruning.
"""
