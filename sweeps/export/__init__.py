"""A trial as nanoGPT's config and checkpoint.

May import verdict, analysis, store.records and study.
"""
