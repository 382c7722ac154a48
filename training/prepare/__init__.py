"""From raw records to a prepared data set; `python -m training.prepare --help`."""
