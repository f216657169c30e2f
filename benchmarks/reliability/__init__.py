"""What a sweep survives, and how large its store may grow."""
