"""What a job costs, in tokens: what is encoded, and what is fused."""

from collections.abc import Collection, Mapping, Sequence

from lanistr.batch import Arrays, Features
from lanistr.importance import Subset
from lanistr.manifest import Graph
from lanistr.modalities import Modality
from service.engine.cache import Key


class Cost:
    """Counts tokens by the graphs' shapes."""

    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        self._graphs = graphs

    def case(
        self,
        features: Features,
        coalitions: Sequence[Subset],
        keys: Mapping[Modality, Sequence[Key]],
        held: Collection[Key],
    ) -> int:
        """Return the tokens that a case has encoded once and fused once a coalition.

        Args:
            features: the case.
            coalitions: subsets of its modalities.
            keys: of its rows, by modality.
            held: keys of rows that are encoded already.
        """
        encoded, fused = 0, 0
        for modality, rows in features.rows.items():
            costs = [self.row(modality, row) for row in rows]
            times = sum(modality in subset for subset in coalitions)
            encoded += sum(
                cost for cost, key in zip(costs, keys[modality], strict=True) if key not in held
            )
            fused += times * (self.fixed_tokens(modality) or max(costs))
        return encoded + fused

    def row(self, modality: Modality, row: Arrays) -> int:
        """Return the tokens that an encoder works on for one row.

        The size of the axes that the graph leaves open (the words of a note), or the tokens that it
        returns (the patches of a picture, the steps of a series).
        """
        graph = self._graphs[modality]
        sizes: list[int] = [
            row[name].shape[axis]
            for name, tensor in graph.inputs.items()
            if name in row
            for axis, size in enumerate(tensor.shape[1:])
            if isinstance(size, str)
        ]
        return max([1, *sizes, self.fixed_tokens(modality) or 1])

    def fixed_tokens(self, modality: Modality) -> int | None:
        """Return how many tokens a row becomes; None where that depends on the row."""
        tokens = self._graphs[modality].outputs["tokens"].shape[1]
        return None if isinstance(tokens, str) else tokens
