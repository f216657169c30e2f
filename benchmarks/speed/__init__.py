"""How fast: training steps, preparing data, the sweep's own overhead, and the same seconds for other tools."""
