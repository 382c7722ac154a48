"""The research release's computation once more, in plain torch, transformers and pytorch-tabnet.

Written from the facts of the checkpoints' specification and sharing nothing with `lanistr`, so
that what both agree on is not an error of one. Its modules are called what the release calls them:
`state_dict()` is a checkpoint. It is small, dense and takes its masks as given.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_tabnet.tab_network import TabNetDecoder, TabNetEncoder
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    FlavaMultimodalConfig,
    FlavaMultimodalModel,
    ViTConfig,
    ViTModel,
)

SMALL: dict[str, Any] = {
    "width": 24,
    "heads": 12,
    "layers": 2,
    "feedforward": 40,
    "words": 120,
    "length": 12,
    "size": 16,
    "patch": 4,
    "features": 8,
    "steps": 10,
    "series_feedforward": 20,
    "decision": 6,
    "decisions": 2,
    "compared": 20,
    "bottleneck": 7,
    "categories": (5, 7),
    "numbers": 3,
}
PAPER = SMALL | {
    "width": 768,
    "layers": 12,
    "feedforward": 3072,
    "words": 30522,
    "length": 512,
    "size": 224,
    "patch": 16,
    "features": 76,
    "steps": 48,
    "series_feedforward": 256,
    "decision": 64,
    "decisions": 6,
    "compared": 2048,
    "bottleneck": 512,
    "categories": (11, 222, 3333, 44),
    "numbers": 2,
}
EMBEDDED = 3
PARTS = {
    "mimic": ("text", "image", "timeseries"),
    "amazon": ("text", "image", "tabular"),
}


def layers_in(**modules: nn.Module) -> nn.Module:
    """Modules under names."""
    group = nn.Module()
    for name, module in modules.items():
        group.add_module(name, module)
    return group


def linear_relu(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width_out), nn.ReLU())


class Series(nn.Module):
    def __init__(self, s: Mapping[str, Any], layers: int) -> None:
        super().__init__()
        width = s["features"]
        self.project_inp = nn.Linear(s["features"], width)
        self.pos_enc = nn.Module()
        self.pos_enc.pe = nn.Parameter(torch.empty(s["steps"], 1, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, s["series_feedforward"], dropout=0.0, activation="gelu"
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output_layer = nn.Linear(width, s["features"])

    def forward(self, values: Tensor) -> Tensor:
        steps = self.project_inp(values).transpose(0, 1) * math.sqrt(values.shape[-1])
        steps = self.transformer_encoder(steps + self.pos_enc.pe)
        return self.output_layer(functional.gelu(steps).transpose(0, 1))


class Table(nn.Module):
    """TabNet as the release keeps it in pretraining, or behind one more level in fine-tuning."""

    def __init__(self, s: Mapping[str, Any], outputs: int | None) -> None:
        super().__init__()
        categories = s["categories"]
        entries = EMBEDDED * len(categories) + s["numbers"]
        tables = nn.ModuleList(nn.Embedding(codes, EMBEDDED) for codes in categories)
        self.embedder = layers_in(embeddings=tables)
        width, steps = s["decision"], s["decisions"]
        encoder = TabNetEncoder(entries, width, width, width, steps, gamma=1.8)
        if outputs is None:
            self.encoder = encoder
            self.decoder = TabNetDecoder(entries, width, steps, n_independent=1, n_shared=1)
        else:
            self.tabnet = layers_in(
                initial_bn=nn.BatchNorm1d(entries),
                encoder=encoder,
                final_mapping=nn.Linear(width, outputs, bias=False),
            )

    def entries(self, numbers: Tensor, codes: Tensor) -> Tensor:
        tables = self.embedder.embeddings
        return torch.cat([*(t(codes[:, i]) for i, t in enumerate(tables)), numbers], dim=1)

    def decide(self, entries: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        encoder = self.tabnet.encoder if hasattr(self, "tabnet") else self.encoder
        if hidden is None:
            return encoder(entries)[0]
        seen = (~hidden).float()
        return encoder(entries * seen, seen)[0]


class ReleasedModel(nn.Module):
    """The release's model of one data set, pretraining if `outputs` is None.

    Inputs are dense: `input_ids`, `attention_mask` (B, K, L) of K notes a case, `pixel_values`
    (B, K, 3, S, S), `numbers` and `codes` or `series`.
    """

    def __init__(
        self, dataset: str, outputs: int | None = None, s: Mapping[str, Any] = SMALL
    ) -> None:
        super().__init__()
        self.parts, self.outputs, self.sizes = PARTS[dataset], outputs, s
        width, few = s["width"], {12: (3, 6)}.get(s["layers"], (2, 2))
        shape: dict[str, Any] = {
            "hidden_size": width,
            "num_attention_heads": s["heads"],
            "intermediate_size": s["feedforward"],
        }
        self.text_encoder = BertModel(
            BertConfig(
                **shape,
                num_hidden_layers=s["layers"],
                vocab_size=s["words"],
                max_position_embeddings=s["length"],
            )
        )
        self.image_encoder = ViTModel(
            ViTConfig(
                **shape,
                num_hidden_layers=s["layers"],
                image_size=s["size"],
                patch_size=s["patch"],
            )
        )
        self.image_encoder.embeddings.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.text_proj = layers_in(layer1=linear_relu(width, width))
        self.image_proj = layers_in(layer1=linear_relu(width, width))
        if "tabular" in self.parts:
            self.tabular_encoder = Table(s, None if outputs is None else width)
            self.tabular_proj = layers_in(layer1=linear_relu(s["decision"], width))
        else:
            self.timeseries_encoder = Series(s, few[0])
            self.time_proj = layers_in(layer1=linear_relu(s["features"], width))
        self.mm_fusion = FlavaMultimodalModel(
            FlavaMultimodalConfig(**shape, num_hidden_layers=few[1])
        )
        if outputs is not None:
            hidden = [linear_relu(width, width), linear_relu(width, width)]
            flat = [each for block in hidden for each in (*block, nn.Dropout(0.5))]
            self.classifier = layers_in(model=nn.Sequential(*flat, nn.Linear(width, outputs)))
            return
        wide = s["compared"]
        self.mlm_head = layers_in(
            predictions=layers_in(
                transform=layers_in(
                    dense=nn.Linear(width, width), layer_norm=nn.LayerNorm(width, eps=1e-12)
                ),
                decoder=nn.Linear(width, s["words"]),
            )
        )
        predictions = self.mlm_head.predictions
        predictions.bias = predictions.decoder.bias
        conv = nn.Conv2d(width, 3 * s["patch"] ** 2, kernel_size=1)
        self.mim_head = layers_in(decoder=nn.Sequential(conv, nn.PixelShuffle(s["patch"])))
        self.mm_proj = layers_in(
            layer1=linear_relu(width, wide),
            layer2=linear_relu(wide, wide),
            layer3=nn.Sequential(nn.Linear(wide, wide)),
        )
        self.mm_predictor = layers_in(
            layer1=linear_relu(wide, s["bottleneck"]), layer2=nn.Linear(s["bottleneck"], wide)
        )

    # ---- fine-tuning ----------------------------------------------------------------------------

    def tokens(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The sequence that fusion gets when the model predicts."""
        cases, notes = batch["input_ids"].shape[:2]
        hidden = self.text_encoder(
            batch["input_ids"].flatten(0, 1), attention_mask=batch["attention_mask"].flatten(0, 1)
        ).last_hidden_state
        text = self.text_proj.layer1(hidden[:, 0]).view(cases, notes, -1).mean(1, keepdim=True)
        pictures = batch["pixel_values"].shape[1]
        patches = self.image_encoder(batch["pixel_values"].flatten(0, 1)).last_hidden_state
        image = self.image_proj.layer1(patches).unflatten(0, (cases, pictures)).mean(1)
        blocks = [functional.normalize(text, dim=1), functional.normalize(image, dim=1)]
        if "tabular" in self.parts:
            blocks.append(self.row_token(self.decided(batch)))
        else:
            blocks.append(self.series_tokens(self.timeseries_encoder(batch["series"])))
        return torch.cat(blocks, dim=1)

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.classifier.model(self.mm_fusion(self.tokens(batch)).last_hidden_state[:, 0])

    def decided(self, batch: Mapping[str, Tensor], hidden: Tensor | None = None) -> list[Tensor]:
        entries = self.tabular_encoder.entries(batch["numbers"], batch["codes"])
        return self.tabular_encoder.decide(entries, hidden)

    def row_token(self, decided: list[Tensor]) -> Tensor:
        row = self.tabular_proj.layer1(sum(decided[1:], decided[0]))
        return functional.normalize(row, dim=1)[:, None]

    def series_tokens(self, output: Tensor) -> Tensor:
        return functional.normalize(self.time_proj.layer1(output), dim=1)

    # ---- pretraining ----------------------------------------------------------------------------

    def pretrain(
        self, batch: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses, and the two fused sequences: of the whole and of the masked batch."""
        words, seen = batch["input_ids"][:, 0], batch["attention_mask"][:, 0]
        pixels = batch["pixel_values"][:, 0]
        losses: dict[str, Tensor] = {}

        spoilt = torch.where(masks["text"], torch.full_like(words, 103), words)
        hidden = self.text_encoder(spoilt, attention_mask=seen).last_hidden_state
        predictions = self.mlm_head.predictions
        named = functional.gelu(predictions.transform.dense(hidden))
        named = predictions.decoder(predictions.transform.layer_norm(named))
        losses["mlm"] = functional.cross_entropy(named.flatten(0, 1), words.flatten())
        plain = self.text_encoder(words, attention_mask=seen).last_hidden_state
        views = [
            [functional.normalize(self.text_proj.layer1(each[:, 0]), dim=1)[:, None]]
            for each in (plain, hidden)
        ]

        patches = self.image_encoder(pixels, bool_masked_pos=masks["image"]).last_hidden_state
        side = self.sizes["size"] // self.sizes["patch"]
        grid = patches[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        off = (self.mim_head.decoder(grid) - pixels).abs()
        spot = masks["image"].view(-1, 1, side, side).float()
        spot = functional.interpolate(spot, scale_factor=self.sizes["patch"])
        losses["mim"] = (off * spot).sum() / spot.sum() / 3
        whole = self.image_encoder(pixels).last_hidden_state
        for view, each in zip(views, (whole, patches), strict=True):
            view.append(functional.normalize(self.image_proj.layer1(each), dim=1))

        if "tabular" in self.parts:
            hides = masks["tabular"]
            entries = self.tabular_encoder.entries(batch["numbers"], batch["codes"])
            steps = self.tabular_encoder.decide(entries, hides)
            wrong = (self.tabular_encoder.decoder(steps) - entries) ** 2 * hides
            variance, mean = entries.var(0), entries.mean(0)
            mean = torch.where(mean == 0, torch.ones_like(mean), mean)
            variance = torch.where(variance == 0, mean, variance)
            by_row = (wrong / variance).sum(1) / (hides.sum(1) + 1e-9)
            losses["mfm"] = by_row.mean()
            views[1].append(self.row_token(steps))
            views[0].append(self.row_token(self.decided(batch)))
        else:
            values, hides = batch["series"], masks["timeseries"]
            filled = self.timeseries_encoder(values * ~hides)
            losses["mtm"] = ((filled - values) ** 2)[hides].mean()
            views[1].append(self.series_tokens(filled))
            views[0].append(self.series_tokens(self.timeseries_encoder(values)))

        fused, masked = (self.mm_fusion(torch.cat(v, dim=1)).last_hidden_state for v in views)
        z = [
            self.mm_proj.layer3(self.mm_proj.layer2(self.mm_proj.layer1(f)))
            for f in (fused, masked)
        ]
        e = [self.mm_predictor.layer2(self.mm_predictor.layer1(each)) for each in z]
        cosines = [functional.cosine_similarity(e[i], z[1 - i], dim=-1).mean() for i in (0, 1)]
        losses["simmmm"] = -cosines[0] - cosines[1]
        return losses, fused, masked


def shake(model: nn.Module) -> None:
    """Give every weight and statistic a value that matters."""
    for name, each in model.named_parameters():
        nn.init.normal_(each, std=0.3, mean=1.0 if "norm" in name.lower() else 0.0)
    for name, each in model.named_buffers():
        if name.endswith("running_mean"):
            each.normal_(std=0.3)
        if name.endswith("running_var"):
            each.uniform_(0.5, 2.0)


def old_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint as transformers before 5 named it, with what it kept besides."""
    parts = (
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    old: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("image_encoder.layers."):
            name = name.replace("image_encoder.layers.", "image_encoder.encoder.layer.")
            for new, former in parts:
                name = name.replace(f".{new}.", f".{former}.")
        old[name] = tensor
    length = state["text_encoder.embeddings.position_embeddings.weight"].shape[0]
    old["text_encoder.embeddings.position_ids"] = torch.arange(length)[None]
    return old
