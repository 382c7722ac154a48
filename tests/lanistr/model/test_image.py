import pytest
import torch
from pydantic import ValidationError
from torch import Generator

from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.image import ImageConfig, ImageEncoder, ImagePretext
from lanistr.model.tensors import TensorBatch


def config_of(pretraining: LanistrConfig, **changes: object) -> ImageConfig:
    assert pretraining.image is not None
    return pretraining.image.model_copy(update=changes)


def test_a_picture_of_224_pixels_has_197_tokens() -> None:
    assert ImageConfig().patches + 1 == 197


def test_pixels_are_normalised_to_minus_one_to_one(pretraining: LanistrConfig) -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    normal = ImageEncoder(config_of(pretraining)).normalise(pixels)
    assert normal.tolist() == [[[[-1.0, 1.0]]] * 3]


def test_pixels_are_normalised_by_the_configs_mean_and_deviation_of_each_channel(
    pretraining: LanistrConfig,
) -> None:
    config = config_of(pretraining, mean=(0.0, 0.5, 1.0), std=(1.0, 0.25, 0.5))
    pixels = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    normal = ImageEncoder(config).normalise(pixels)
    assert normal.tolist() == [[[[0.0, 1.0]], [[-2.0, 2.0]], [[-2.0, 0.0]]]]


def test_a_deviation_of_0_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not positive"):
        ImageConfig(std=(0.5, 0.0, 0.5))


def test_how_pixels_are_normalised_stands_in_the_config_and_not_among_the_weights(
    pretraining: LanistrConfig,
) -> None:
    names = ImageEncoder(config_of(pretraining)).state_dict()
    assert not any("scale" in each or "shift" in each for each in names)


def test_a_hidden_patch_cannot_be_seen_by_the_encoder(
    pretraining: LanistrConfig, full_batch: TensorBatch
) -> None:
    """In the released code the mask did not reach the encoder under the name it was given."""
    encoder = ImageEncoder(config_of(pretraining)).eval()
    torch.nn.init.normal_(encoder.vit.embeddings.mask_token)
    pixels = full_batch.parts[Modality.IMAGE].arrays["pixels"]
    changed = pixels.clone()
    changed[:, :, :4, :4] = 255 - changed[:, :, :4, :4]
    hidden = torch.zeros(8, 16, dtype=torch.bool)
    hidden[:, 0] = True
    assert not torch.allclose(encoder(pixels), encoder(changed))
    torch.testing.assert_close(encoder(pixels, hidden), encoder(changed, hidden))
    assert not torch.allclose(encoder(pixels), encoder(pixels, hidden))


def test_the_target_is_the_pixels_of_the_hidden_patches_alone(
    pretraining: LanistrConfig, generator: Generator
) -> None:
    """A decoder that paints one constant is off by exactly that much, wherever patches fall."""
    config = config_of(pretraining)
    encoder, pretext = ImageEncoder(config), ImagePretext(config)
    torch.nn.init.zeros_(pretext.decoder.weight)
    torch.nn.init.zeros_(pretext.decoder.bias)
    pixels = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    loss, tokens = pretext(encoder, {"pixels": pixels}, generator)
    assert loss.item() == 1
    assert tokens.shape == (2, 17, 16)


def test_painted_patches_stand_where_they_were_hidden(
    pretraining: LanistrConfig, generator: Generator
) -> None:
    """A decoder that knows each patch by its position paints a picture without error."""
    config = config_of(pretraining, mask_ratio=1.0)
    pretext = ImagePretext(config)
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    normal = ImageEncoder(config).normalise(pixels)
    patches = normal.unfold(2, 4, 4).unfold(3, 4, 4)  # 1, 3, 4, 4 (patch grid), 4, 4
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(1, 16, 48)

    class Knowing(ImageEncoder):
        def forward(self, pixels, hidden_RP=None):  # type: ignore[no-untyped-def]
            return torch.cat([patches.new_zeros(1, 1, 48), patches], dim=1)

    pretext.decoder = torch.nn.Identity()  # type: ignore[assignment]
    loss, _ = pretext(Knowing(config), {"pixels": pixels}, generator)
    assert loss.item() == 0


def test_a_batch_without_hidden_patches_costs_nothing(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    config = config_of(pretraining, mask_ratio=0.0)
    encoder, pretext = ImageEncoder(config), ImagePretext(config)
    loss, _ = pretext(encoder, full_batch.parts[Modality.IMAGE].arrays, generator)
    assert loss.item() == 0
    loss.backward()
