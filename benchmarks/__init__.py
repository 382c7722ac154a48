"""Measurements that a user can repeat; each prints a table and JSON."""

from lanistr.command import name_missing_packages

name_missing_packages("`make install`, and lanistr[peers] for the servers beside ours")
