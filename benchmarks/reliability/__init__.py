"""What a sweep survives: kills, damaged files and disks, and stores of many trials."""
