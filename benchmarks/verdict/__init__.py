"""Is the verdict right: planted faults, coverage of intervals, false claims of whole confirm phases."""
