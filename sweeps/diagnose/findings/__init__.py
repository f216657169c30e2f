"""Findings of a diagnosis: each a pure function of a measured run and its judgement, one file per group.

May import measured, judgement, outlook and usual.
"""
