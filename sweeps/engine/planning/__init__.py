"""How long and how large a study is, before it runs.

May import study, store.records, workers.pool and trainer; nothing else of engine.
"""
