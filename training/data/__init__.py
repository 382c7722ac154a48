"""Prepared data sets: their files, the order of an epoch, and batches."""
