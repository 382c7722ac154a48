"""How every command ends: 0 when done, 2 with one clear line for a user's mistake."""

import sys
from collections.abc import Callable

from lanistr.errors import LanistrError


def run_command(main: Callable[[], None]) -> None:
    """Run a command's main function and leave with its exit code.

    A `LanistrError` becomes one line on standard error and exit code 2; an interrupt leaves with
    130, as shells expect; anything else is a defect and keeps its traceback.
    """
    try:
        main()
    except LanistrError as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
