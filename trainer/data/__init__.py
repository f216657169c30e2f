"""The way from text to tokens: corpora and files, tokenizers, the prepared folder, and the dataset read from it.

May import atomic and errors.
"""
