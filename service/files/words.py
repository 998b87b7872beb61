"""Tokens and static vectors of words, from the files of wordllama's wheel (MIT).

The wheel's own code is not used: it would look for the tokenizer on a hub.
"""

import functools
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Indexing takes one core at most: the others are for those who wait for an answer.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
from tokenizers import Tokenizer

TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
WEIGHTS = Path("weights", "l2_supercat_256.safetensors")

Ids = npt.NDArray[np.uint16]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text, and at which of its characters each begins."""

    ids: Ids
    starts: Places


def tokenize(texts: list[str]) -> list[Tokens]:
    """Returns the tokens of texts, of some thousand characters each at most."""
    found = _tokenizer().encode_batch(texts, add_special_tokens=False)
    return [
        Tokens(
            np.array(each.ids, dtype=np.uint16),
            np.array(each.offsets, dtype=np.int64).reshape(-1, 2)[:, 0],
        )
        for each in found
    ]


def vectors() -> npt.NDArray[np.float16]:
    """Returns the vector of each token, by its id; mapped from the disk."""
    return _weights()


def texts() -> list[str]:
    """Returns the text of each token, by its id; a space before a word is `▁`."""
    tokenizer = _tokenizer()
    return [str(tokenizer.id_to_token(id)) for id in range(tokenizer.get_vocab_size())]


@functools.cache
def _tokenizer() -> Any:
    return Tokenizer.from_file(str(_folder() / TOKENIZER))


@functools.cache
def _weights() -> npt.NDArray[np.float16]:
    path = _folder() / WEIGHTS
    # The form of safetensors: the length of a header in JSON, the header, the numbers.
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        (tensor,) = (each for each in json.loads(file.read(size)).values() if "shape" in each)
    begin = 8 + size + tensor["data_offsets"][0]
    shape = (tensor["shape"][0], tensor["shape"][1])
    return np.memmap(path, dtype="<f2", mode="r", offset=begin, shape=shape)


def _folder() -> Path:
    found = importlib.util.find_spec("wordllama")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("wordllama is not installed: it comes with the extra `files`")
    return Path(found.origin).parent
