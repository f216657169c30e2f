"""The network and its kernels.

May import config.
"""
