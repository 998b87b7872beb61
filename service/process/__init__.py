"""Child processes, probes, metrics, logs and certificates."""
