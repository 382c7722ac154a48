"""Preparing data, pretraining, fine-tuning and evaluating LANISTR models."""
