"""The four modalities and their one canonical order."""

from collections.abc import Collection
from enum import StrEnum


class Modality(StrEnum):
    """A kind of input; members stand in the order in which their tokens enter fusion.

    Source: LANISTR paper, section 3 (fused sequence: text, image, tabular, time series).
    """

    TEXT = "text"
    IMAGE = "image"
    TABULAR = "tabular"
    TIMESERIES = "timeseries"


def presence(modalities: Collection[str]) -> str:
    """Return the name of a presence pattern: which modalities a case brings, as text+timeseries."""
    return "+".join(each for each in Modality if each in modalities)
