"""The shared core of LANISTR: what a record, a task, a batch, a bundle and a model are.

Everything outside `lanistr.model` imports without torch, so that serving stays small.
"""

__version__ = "0.1.0"
