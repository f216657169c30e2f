"""The loop: what runs next, on which worker, when it is pruned, and how it is stored.

May import analysis, store, workers, study and pruning.
"""
