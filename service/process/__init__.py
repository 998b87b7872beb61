"""Child processes, probes, metrics and logs."""
