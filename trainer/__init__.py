"""Training runs of a small GPT in nanoGPT's manner; it knows nothing of sweeps.

The rooms, uppermost first: run, machine, model, data. Below them config, nanogpt, schedule, points, atomic and errors.
"""
