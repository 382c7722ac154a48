"""Parts of the systems that the paper compares LANISTR with, see `docs/baselines.md`."""
