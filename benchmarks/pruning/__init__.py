"""When to stop a trial: recorded banks of loss curves, simulated studies, and pruning rules replayed on them."""
