"""Measurements that a user can repeat; each prints a table and JSON."""
