"""The model: an encoder for each modality, their fusion, heads, losses, weights on disk.

The only part of `lanistr` that imports torch.
"""
