"""Child processes, probes, metrics, logs, traces and certificates."""
