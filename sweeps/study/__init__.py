"""The question: a YAML file becomes a checked, frozen Study and the trials that are known beforehand.

May import trainer, text, paths and errors.
"""
