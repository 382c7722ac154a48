"""The four modalities and their one canonical order."""

from enum import StrEnum


class Modality(StrEnum):
    """A kind of input; members stand in the order in which their tokens enter fusion.

    Source: LANISTR paper, section 3 (fused sequence: text, image, tabular, time series).
    """

    TEXT = "text"
    IMAGE = "image"
    TABULAR = "tabular"
    TIMESERIES = "timeseries"
