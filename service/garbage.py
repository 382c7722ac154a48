"""The garbage collector is kept away from what stays: modules, models, routes.

Python's collector looks now and then through all objects that there are. In a service that is
a hundred thousand of them or more, of which none is garbage, and meanwhile nobody is answered.
Source: Python's documentation of `gc.freeze`.
"""

import gc


def pass_over_what_stays() -> None:
    """From now on pass over the objects that there are, once those that are garbage are gone.

    To be said again when models were exchanged: what was passed over is freed when nothing refers
    to it, but not when it stands in a circle. Takes as long as one of the pauses that it spares.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
