"""The length and the cost of a study before it runs.

May import study, store.records, workers.pool and trainer; nothing else of engine.
"""
