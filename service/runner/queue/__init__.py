"""The queue of runs that wait for a worker."""
