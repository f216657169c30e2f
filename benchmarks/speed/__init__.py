"""How fast: training steps, preparing data, the sweep's own overhead, and other tools in the same seconds."""
