"""Devices, each with one worker: the pool's contract, its processes, and what runs in them.

May import trainer, paths and signals.
"""
