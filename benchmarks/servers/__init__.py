"""Servers that ours is measured beside, each as its own guide would have it."""
