"""Preparing data, pretraining, fine-tuning and evaluating LANISTR models."""

from lanistr.command import name_missing_packages

name_missing_packages("lanistr[training]")
