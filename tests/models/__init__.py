"""The client of model servers, against scripted, raw and real ones."""
