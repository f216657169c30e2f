"""Tables of runs from any trainer, judged as our own confirm phase is. May import analysis, text, errors."""
