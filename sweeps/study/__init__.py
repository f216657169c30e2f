"""The question: a YAML file becomes a checked, frozen Study and the trials known before any sampler is asked.

May import trainer, text, paths and errors.
"""
