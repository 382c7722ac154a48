"""The garbage collector is kept away from what stays: modules, models, routes.

Python's collector looks now and then through all objects that there are. In a service that is
a hundred thousand of them or more, of which none is garbage, and meanwhile nobody is answered.
Source: Python's documentation of `gc.freeze`.
"""

import gc


def freeze_objects() -> None:
    """Collect garbage, and keep the collector from looking at what is left from now on.

    To be called again when models were exchanged: a frozen object is freed when nothing refers to
    it any more, but not when it is part of a cycle. Takes as long as one of the pauses it saves.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
