"""Whether the verdict is right: planted faults, coverage of its intervals, false claims of whole confirm phases."""
