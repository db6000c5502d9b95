"""The transformer of the experiments on text, in the layout of nanoGPT."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..describe.description import Transformer

_INITIAL_DEVIATION = 0.02  # of the weights, as in GPT-2


class _Block(nn.Module):
    """Causal attention and a perceptron, each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_output = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp_hidden = nn.Linear(width, 4 * width, bias=False)
        self.mlp_output = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention_output(self._attend(self.query_key_value(self.attention_norm(x))))
        after: Tensor = x + self.mlp_output(F.gelu(self.mlp_hidden(self.mlp_norm(x))))
        return after

    def _attend(self, query_key_value: Tensor) -> Tensor:
        """What every head reads at its position and before, heads side by side. [N, T, 3 W] -> [N, T, W]"""
        examples, positions, triple = query_key_value.shape
        heads = query_key_value.view(examples, positions, 3, self.heads, triple // (3 * self.heads))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return read.transpose(1, 2).reshape(examples, positions, triple // 3)


class CharacterTransformer(nn.Module):
    """A transformer that predicts at every position which character comes next.

    Args:
        network: its sizes.
    """

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.character_embedding = nn.Embedding(network.outputs, network.width)
        self.position_embedding = nn.Embedding(network.context, network.width)
        self.blocks = nn.ModuleList([_Block(network.width, network.heads) for _ in range(network.layers)])
        self.final_norm = nn.LayerNorm(network.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                # Every block adds two outputs to its input: so the sum does not grow with the number of blocks.
                is_added = name.endswith("_output.weight")
                share = 1.0 / math.sqrt(2 * network.layers) if is_added else 1.0
                nn.init.normal_(weight, std=_INITIAL_DEVIATION * share)

    def forward(self, characters: Tensor) -> Tensor:
        """The logits of the next character, with positions last as cross-entropy takes them. [N, T] -> [N, C, T]"""
        positions = torch.arange(characters.shape[1], device=characters.device)
        x = self.character_embedding(characters) + self.position_embedding(positions)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.final_norm(x), self.character_embedding.weight).transpose(1, 2)
