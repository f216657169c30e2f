"""What is here to train on: devices, memory, micro-batches.

May import model, config, atomic and errors.
"""
