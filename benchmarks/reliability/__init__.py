"""What a sweep survives: kills of its processes, damaged checkpoints, full disks."""
