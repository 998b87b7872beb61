"""The run engine: a queue, workers that claim and execute runs, their events, a reconciler."""
