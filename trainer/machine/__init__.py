"""The machine: its devices, their memory, and the micro-batches that fit.

May import model, config, atomic and errors.
"""
