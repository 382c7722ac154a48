"""From a fine-tuned run to a bundle that needs no torch; `python -m export --help`."""

from lanistr.command import name_missing_packages

name_missing_packages("lanistr[training,export,cpu]")
