"""The run engine on real storage, with a scripted model."""
