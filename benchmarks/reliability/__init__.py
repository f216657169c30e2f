"""What survives: faults, damaged files, large stores."""
