"""One figure per file: the data first, as frozen dataclasses, then the drawing.

May import analysis, store.records, study, text and, for their words, verdict.
"""
