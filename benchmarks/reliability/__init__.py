"""What a sweep survives: kills of its processes, damaged files and disks, and stores of many trials."""
