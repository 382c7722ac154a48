"""Where an exchange stands in a trace that spans several programs.

Source: W3C Trace Context, `traceparent`.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Self

from opentelemetry import trace as opentelemetry

HEADER = "traceparent"

# A version that we do not know may have more behind the flags; 00 has not.
_VALID = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """The part of a trace that this exchange is.

    Attributes:
        id: of the whole trace, 32 hexadecimal digits.
        span: of this part, 16 hexadecimal digits.
        sampled: whether the caller records it.
    """

    id: str
    span: str
    sampled: bool

    @classmethod
    def below(cls, headers: list[str]) -> Self | None:
        """Return a new part below the caller's; None where its header is missing or malformed.

        Where OpenTelemetry records the exchange, the part is the one that it recorded.
        """
        recorded = opentelemetry.get_current_span().get_span_context()
        if recorded.is_valid:
            return cls(
                f"{recorded.trace_id:032x}",
                f"{recorded.span_id:016x}",
                recorded.trace_flags.sampled,
            )
        found = _VALID.fullmatch(headers[0]) if len(headers) == 1 else None
        if found is None:
            return None
        version, name, parent, flags, more = found.groups()
        if (version == "00" and more) or not int(name, 16) or not int(parent, 16):
            return None
        return cls(name, secrets.token_hex(8), bool(int(flags, 16) & 1))

    def __str__(self) -> str:
        return f"00-{self.id}-{self.span}-{self.sampled:02x}"
