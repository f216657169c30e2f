"""Whether a diagnosis agrees with an expert's reading of the log, and with faults that were planted."""
