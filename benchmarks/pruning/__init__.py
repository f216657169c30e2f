"""When to stop a trial: recorded banks of curves, simulated studies, and rules replayed on them."""
