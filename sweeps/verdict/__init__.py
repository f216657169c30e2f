"""The analysis in plain sentences and in JSON.

May import analysis, store.records, study, text and outputs.
"""
