"""A trial, a branch or a race as nanoGPT's config and checkpoint.

May import verdict, analysis, store.records, study and paths.
"""
