"""The network, its size, and its kernels for a CPU.

May import config.
"""
