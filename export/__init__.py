"""From a fine-tuned run to a bundle that needs no torch; `python -m export --help`."""
