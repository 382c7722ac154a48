"""Tabular: TabNet over table rows, and masked feature modelling to pretrain it.

TabNet is pytorch-tabnet's. Two of its parts are put in other words here, with the same
parameters under the same names: ghost batch norm, so that any number of rows can be trained on
and evaluation is plain arithmetic that exports, and sparsemax, whose own version writes into its
input.

Shapes: R row, K category column, M number column, E = category_width * K + M entry after
embedding, W width.
"""

from typing import Annotated, Any, Literal, Protocol, Self

import torch
from pydantic import Field, model_validator
from pytorch_tabnet.sparsemax import Sparsemax as LibrarySparsemax
from pytorch_tabnet.tab_network import GBN, TabNetDecoder, TabNetEncoder
from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.model import losses, masking
from lanistr.model.encoder import Encoder, Pretext
from lanistr.model.shortcut import EXTREME, Shortcut, ShortcutConfig
from lanistr.model.tensors import Arrays
from lanistr.schema import Schema


class TabularConfig(Schema):
    """Sizes of TabNet; the defaults are the release's.

    Attributes:
        numbers: number columns M, those that say "was missing" among them.
        categories: number of codes of each category column, "missing" and "unknown" among them.
        category_width: length of a category's embedding.
        width: of each decision step and of attention (n_d = n_a).
        virtual_batch: rows that are normalised together in training.
        output_mapping: keep the unused layers that a TabNet classifier puts behind its encoder,
            a batch norm and a mapping to this many outputs: for the paper's parameter counts.
        mask_ratio: share of the columns that pretraining hides.

    Source: Arik and Pfister 2021 (TabNet); LANISTR paper, Table 5.
    """

    kind: Literal["tabnet"] = "tabnet"
    numbers: int = Field(ge=0)
    categories: tuple[Annotated[int, Field(ge=1)], ...] = ()
    category_width: int = Field(default=3, ge=1)
    width: int = Field(default=64, ge=1)
    steps: int = Field(default=6, ge=1)
    gamma: float = Field(default=1.8, ge=1)
    independent: int = Field(default=2, ge=1)
    shared: int = Field(default=2, ge=1)
    decoder_independent: int = Field(default=1, ge=1)
    decoder_shared: int = Field(default=1, ge=1)
    momentum: float = Field(default=0.02, gt=0, le=1)
    virtual_batch: int = Field(default=128, ge=2)
    output_mapping: int | None = Field(default=None, ge=1)
    mask_ratio: float = Field(default=0.15, ge=0, le=1)

    @model_validator(mode="after")
    def _has_columns(self) -> Self:
        if not self.entries:
            raise ValueError("a table needs at least one column")
        return self

    @property
    def entries(self) -> int:
        """Number E of inputs of TabNet: embedded categories, then numbers."""
        return self.category_width * len(self.categories) + self.numbers


class Columns(Protocol):
    """What configs of encoders of table rows say of the columns, see `TabularConfig`."""

    @property
    def numbers(self) -> int:
        """Number columns M."""
        ...

    @property
    def categories(self) -> tuple[int, ...]:
        """Codes of each category column."""
        ...


class RowEncoder(Encoder):
    """An encoder of table rows, whatever it makes of them."""

    config: Columns

    def example(self, rows: int) -> Arrays:
        """See `Encoder.example`."""
        return {
            "numbers": torch.zeros(rows, self.config.numbers),
            "categories": torch.zeros(rows, len(self.config.categories), dtype=torch.int64),
        }

    def drawn(self, rows: int, generator: Generator) -> Arrays:
        """See `Encoder.drawn`."""
        sizes = self.config.categories
        codes = [torch.randint(n, (rows,), generator=generator) for n in sizes]
        none = torch.zeros(rows, 0, dtype=torch.int64)
        return {
            "numbers": torch.randn(rows, self.config.numbers, generator=generator),
            "categories": torch.stack(codes, dim=1) if codes else none,
        }


class TabularEncoder(RowEncoder):
    """TabNet over each table row."""

    config: TabularConfig
    unused = ("initial_bn", "final_mapping")

    def __init__(self, config: TabularConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.embedder = Embedder(config)
        self.encoder = TabNetEncoder(
            input_dim=config.entries,
            output_dim=config.width,
            n_d=config.width,
            n_a=config.width,
            n_steps=config.steps,
            gamma=config.gamma,
            n_independent=config.independent,
            n_shared=config.shared,
            virtual_batch_size=config.virtual_batch,
            momentum=config.momentum,
        )
        replace_layers(self.encoder)
        # The library keeps it as a plain attribute, which would stay behind on the CPU.
        groups = self.encoder.__dict__.pop("group_attention_matrix")
        self.encoder.register_buffer("group_attention_matrix", groups, persistent=False)
        if config.output_mapping:
            self.initial_bn = nn.BatchNorm1d(config.entries)
            self.final_mapping = nn.Linear(config.width, config.output_mapping, bias=False)
        self.shortcut: Shortcut | None = None

    def add_shortcut(self, sizes: ShortcutConfig) -> None:
        """See `Encoder.add_shortcut`: the figures are the entries."""
        self.shortcut = Shortcut(sizes, self.config.entries, self.width)
        self.shortcuts = 1
        self.handed_on += 1

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Encode table rows.

        Args:
            numbers: (R, M) float32, standardised; 0 where missing.
            categories: (R, K) int64 codes; 0 missing, 1 unknown.

        Returns:
            (R, N, W): the sum of the decision steps, then the shortcut's token, if there is one.
        """
        entries_RE = self.embedder(numbers, categories)
        return self.hand_on(entries_RE, self.decide(entries_RE, torch.ones_like(entries_RE)))

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`: the matrices of TabNet's steps and the one before them."""
        config, hidden = self.config, 2 * self.config.width
        inner = config.shared - 1 + config.independent
        transform = config.entries * 2 * hidden + inner * hidden * 2 * hidden
        attend = config.width * config.entries + config.entries**2
        steps = (config.steps + 1) * transform + config.steps * attend
        rows = len(arrays["numbers"])
        return 2 * rows * steps + (self.shortcut.flops(rows) if self.shortcut else 0)

    def decide(self, entries_RE: Tensor, prior_RE: Tensor) -> list[Tensor]:
        """Return the decision steps' outputs, each (R, W); a prior of 0 forbids an entry."""
        steps, _sparsity = self.encoder(entries_RE, prior_RE)
        return steps

    def hand_on(self, entries_RE: Tensor, steps: list[Tensor]) -> Tensor:
        """Return the tokens (R, N, W) of rows: of their decision steps, and of the shortcut."""
        token_R1W = torch.stack(steps).sum(dim=0)[:, None]
        if self.shortcut is None:
            return token_R1W
        figures_RE = entries_RE.clamp(-EXTREME, EXTREME)
        return torch.cat([token_R1W, self.shortcut.token(figures_RE)], dim=1)


class Embedder(nn.Module):
    """Turns the columns of a row into entries: categories by table look-up, numbers as they are."""

    def __init__(self, config: TabularConfig) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(codes, config.category_width) for codes in config.categories
        )

    def forward(self, numbers_RM: Tensor, categories_RK: Tensor) -> Tensor:
        """Return the entries (R, E): embedded categories first, then numbers."""
        embedded = [
            embedding(categories_RK[:, column]) for column, embedding in enumerate(self.embeddings)
        ]
        return torch.cat([*embedded, numbers_RM], dim=1)


class TabularPretext(Pretext):
    """Masked feature modelling: fill in the columns that were hidden in a row.

    Source: Arik and Pfister 2021 (TabNet), section "Tabular self-supervised learning".
    """

    entries_of_column: Tensor

    def __init__(self, config: TabularConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = TabNetDecoder(
            input_dim=config.entries,
            n_d=config.width,
            n_steps=config.steps,
            n_independent=config.decoder_independent,
            n_shared=config.decoder_shared,
            virtual_batch_size=config.virtual_batch,
            momentum=config.momentum,
        )
        replace_layers(self.decoder)
        widths = [config.category_width] * len(config.categories) + [1] * config.numbers
        self.register_buffer("entries_of_column", torch.tensor(widths), persistent=False)

    def flops(self, arrays: Arrays) -> int:
        """Count the floating-point operations of filling in the columns."""
        config = self.config
        inner = config.decoder_shared + config.decoder_independent
        step = inner * config.width * 2 * config.width
        return 2 * len(arrays["numbers"]) * (config.steps * step + config.width * config.entries)

    def forward(
        self, encoder: TabularEncoder, arrays: Arrays, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Hide columns, encode what is left, decode all.

        Returns:
            the loss and the tokens (R, N, W) of the rows with hidden columns.
        """
        entries_RE = encoder.embedder(arrays["numbers"], arrays["categories"])
        hidden_RE = self.hide(entries_RE, generator)
        visible_RE = (~hidden_RE).to(entries_RE.dtype)
        left_RE = entries_RE * visible_RE
        steps = encoder.decide(left_RE, visible_RE)
        loss = self.error(self.decoder(steps), entries_RE, hidden_RE)
        return loss, encoder.hand_on(left_RE, steps)

    def hide(self, entries_RE: Tensor, generator: Generator) -> Tensor:
        """Return (R, E) bool, True for the entries of the hidden columns."""
        columns = len(self.entries_of_column)
        hidden_RK = masking.draw_columns(
            len(entries_RE), columns, ratio=self.config.mask_ratio, generator=generator
        ).to(entries_RE.device)
        return hidden_RK.repeat_interleave(
            self.entries_of_column, dim=1, output_size=self.config.entries
        )

    def error(self, predicted_RE: Tensor, entries_RE: Tensor, hidden_RE: Tensor) -> Tensor:
        """Return the loss."""
        return losses.masked_features(predicted_RE, entries_RE, hidden_RE)


# ---- parts of TabNet in other words -------------------------------------------------------------


def replace_layers(tabnet: nn.Module) -> None:
    """Replace ghost batch norm, batch norm and sparsemax all through a part of TabNet."""
    for parent in list(tabnet.modules()):
        for name, child in parent.named_children():
            if isinstance(child, GBN):
                setattr(parent, name, GhostBatchNorm(child))
            elif isinstance(child, LibrarySparsemax):
                setattr(parent, name, Sparsemax())
    for name, child in tabnet.named_children():
        if type(child) is nn.BatchNorm1d:
            setattr(tabnet, name, BatchNorm.like(child))


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes a batch without spread too: of one row, or of rows that are all alike.

    In training it is then normalised by the running statistics, as in evaluation, and leaves them
    as they are. By its own spread, which is 0, the gradient would grow some hundredfold in every
    layer: past what float32 holds, so that a run could not get past such a batch.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm1d) -> "BatchNorm":
        """Return a fresh norm of the same size and momentum."""
        return cls(norm.num_features, eps=norm.eps, momentum=norm.momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (R, E) by column."""
        if self.training and self._varies(x):
            return super().forward(x)
        mean, var = self.running_mean, self.running_var
        if self.training:  # another batch may move them before this one's backward pass
            assert mean is not None
            assert var is not None
            mean, var = mean.clone(), var.clone()
        return functional.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)

    def _varies(self, x: Tensor) -> bool:
        """Whether any column varies by more than what is added to the variance."""
        return len(x) > 1 and bool(x.detach().var(dim=0, correction=0).amax() > self.eps)


class GhostBatchNorm(nn.Module):
    """Batch norm over virtual batches of about equal size in training; plain in evaluation.

    A virtual batch of one row, which has no spread, joins the one before it.

    Source: Hoffer et al. 2017.
    """

    def __init__(self, library: Any) -> None:
        super().__init__()
        self.virtual_batch = int(library.virtual_batch_size)
        self.bn = BatchNorm.like(library.bn)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (R, E) by column."""
        if not self.training or len(x) <= self.virtual_batch:
            return self.bn(x)
        chunks = list(x.chunk(-(-len(x) // self.virtual_batch)))
        if len(chunks[-1]) == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        return torch.cat([self.bn(chunk) for chunk in chunks])


class Sparsemax(nn.Module):
    """The nearest point of the probability simplex.

    Source: Martins and Astudillo 2016, algorithm 1.
    """

    def forward(self, scores: Tensor) -> Tensor:
        """Return weights of the shape of `scores` that sum to 1 over the last axis.

        Where scores are NaN, so are the weights.
        """
        scores = scores.float()
        # Only differences count; small numbers keep the running sum exact.
        scores = scores - scores.amax(dim=-1, keepdim=True)
        ordered = scores.sort(dim=-1, descending=True).values
        rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
        excess = ordered.cumsum(dim=-1) - 1
        # Not `>`: of NaN that would find no support at all, whose last place is none.
        support = (~(rank * ordered <= excess)).sum(dim=-1, keepdim=True)
        threshold = excess.gather(-1, support - 1) / support
        return (scores - threshold).clamp(min=0)
