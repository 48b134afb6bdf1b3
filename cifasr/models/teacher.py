"""Reads a Whisper checkpoint, whoever wrote the file, into one form: our own names over the teacher's vocabulary.

Three files are understood: a Hugging Face folder (``model.safetensors``, ``config.json``), an openai-whisper ``.pt``,
and a CTranslate2 ``model.bin``.
"""

import json
import pickle
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer as TeacherTokenizer
from torch import Tensor

from cifasr.errors import CheckpointError

_CAPITAL_SHARE = 0.03
_NOTHING, _START, _PROMPT = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"


@dataclass(frozen=True)
class Teacher:
    """A Whisper model.

    Attributes:
        weights: Tensors under the names of `CifAsr`, the embedding over the teacher's own vocabulary; places of the
            encoder are left out, they are the same sinusoids in every Whisper.
        num_heads: Heads of every attention.
        alignment_heads: (layer, head) pairs of the decoder that follow the speech; empty where the file does not say.
        pieces: Text of each sub-word, by the teacher's id; control pieces left out.
        nothing_id: The teacher's end of text.
        start_id: Its start of transcript.
        prompt_id: Its "no timestamps".
    """

    weights: dict[str, Tensor]
    num_heads: int
    alignment_heads: tuple[tuple[int, int], ...]
    pieces: dict[int, str]
    nothing_id: int
    start_id: int
    prompt_id: int


def read_teacher(source: Path, tokenizer: Path | None = None) -> Teacher:
    """Read a checkpoint.

    Args:
        source: A Hugging Face folder, an openai-whisper ``.pt`` file, or a CTranslate2 folder or ``model.bin``.
        tokenizer: The teacher's ``tokenizer.json``; by default the one beside the weights.

    Raises:
        CheckpointError: The file is absent, of another kind, lacks a tensor, or is multilingual.
    """
    folder = source if source.is_dir() else source.parent
    file = _weights_file(source)
    if file.suffix == ".pt":
        weights = _renamed(_read_openai(file), _from_openai, source)
    elif file.suffix == ".bin":
        weights = _renamed(_read_ctranslate2(file), _from_ctranslate2, source)
    else:
        weights = _renamed(_read_hugging_face(file), _from_hugging_face, source)
    path = tokenizer if tokenizer is not None else folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: the teacher's tokenizer.json is not there; name it with --tokenizer")
    try:
        teacher_tokenizer = TeacherTokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{path}: not a tokenizer.json: {error}") from error
    vocab_size = weights["decoder.embedding.weight"].shape[0]
    if vocab_size != 51864:
        raise CheckpointError(f"{source}: wanted an English-only Whisper (51864 tokens), got {vocab_size} tokens")
    special = _english_special_ids()
    num_pieces = min(teacher_tokenizer.get_vocab_size(False), special[_NOTHING])
    return Teacher(
        weights=weights,
        num_heads=weights["decoder.positions"].shape[1] // 64,  # every Whisper has heads of 64
        alignment_heads=_alignment_heads(folder),
        pieces={i: teacher_tokenizer.decode([i]) for i in range(num_pieces)},
        nothing_id=special[_NOTHING],
        start_id=special[_START],
        prompt_id=special[_PROMPT],
    )


def count_pieces(teacher_tokenizer: Path, texts: Iterable[str]) -> dict[int, float]:
    """Estimate how often the teacher would write each of its sub-words in a text, whatever case the text is in.

    A word that is one sub-word with a capital and several without is a name, and counted with the capital. Any other
    counts as it is in lower case, and a little with a capital, for the beginnings of sentences.

    Args:
        teacher_tokenizer: The teacher's ``tokenizer.json``.
        texts: Sentences of words.

    Returns:
        Count by the teacher's id.
    """
    tokenizer = TeacherTokenizer.from_file(str(teacher_tokenizer))
    words = Counter(word for text in texts for word in text.lower().split())
    lower = tokenizer.encode_batch([f" {word}" for word in words], add_special_tokens=False)
    upper = tokenizer.encode_batch([f" {word.capitalize()}" for word in words], add_special_tokens=False)
    counts: defaultdict[int, float] = defaultdict(float)
    for number, plain, capital in zip(words.values(), lower, upper, strict=True):
        is_name = len(capital.ids) == 1 and len(plain.ids) > 1
        for ids, share in ((plain.ids, 0.0 if is_name else 1.0), (capital.ids, 1.0 if is_name else _CAPITAL_SHARE)):
            for piece in ids:
                counts[piece] += number * share
    return {piece: count for piece, count in counts.items() if count > 0}


def _weights_file(source: Path) -> Path:
    names = [source / name for name in ("model.safetensors", "model.bin")] if source.is_dir() else [source]
    for path in names:
        if path.is_file() and path.suffix in (".safetensors", ".bin", ".pt"):
            return path
    raise CheckpointError(f"{source}: wanted a folder with model.safetensors or model.bin, or a .pt file")


def _english_special_ids() -> dict[str, int]:
    return {_NOTHING: 50256, _START: 50257, _PROMPT: 50362}  # files of English-only models number them as in GPT-2


def _alignment_heads(folder: Path) -> tuple[tuple[int, int], ...]:
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            try:
                heads = json.loads((folder / name).read_text(encoding="utf-8")).get("alignment_heads") or ()
                pairs = tuple((int(layer), int(head)) for layer, head in heads)
            except (AttributeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{folder / name}: its alignment_heads cannot be read: {error}") from error
            if pairs:
                return pairs
    return ()


def _renamed(
    tensors: Mapping[str, Tensor], rename: Callable[[str, Tensor], Iterator[tuple[str, Tensor]]], source: Path
) -> dict[str, Tensor]:
    weights = {name: value.float() for key, tensor in tensors.items() for name, value in rename(key, tensor)}
    for needed in (
        "encoder.conv1.weight",
        "encoder.final_norm.weight",
        "decoder.embedding.weight",
        "decoder.positions",
    ):
        if needed not in weights:
            raise CheckpointError(f"{source}: not a Whisper checkpoint: nothing in it stands for {needed}")
    return weights


def _read_hugging_face(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    return tensors


def _read_openai(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors: dict[str, Tensor] = content["model_state_dict"]
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not an openai-whisper checkpoint: {error}") from error
    return tensors


def _read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Read CTranslate2's file: a header, then for each variable name, shape, type and data, all little-endian."""
    dtypes = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    data = path.read_bytes()
    place = 0

    def number(kind: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", data, place)
        place += struct.calcsize(kind)
        return int(value)

    def string() -> str:
        nonlocal place
        length = number("H")
        text = data[place : place + length - 1].decode()
        place += length
        return text

    tensors = {}
    try:
        number("I")
        if string() != "WhisperSpec":
            raise CheckpointError(f"{path}: a CTranslate2 file, but not of a Whisper")
        number("I")
        for _ in range(number("I")):
            name = string()
            shape = [number("I") for _ in range(number("B"))]
            dtype = dtypes[number("B")]
            size = number("I")
            array = np.frombuffer(data, dtype, size // np.dtype(dtype).itemsize, place).reshape(shape)
            tensors[name] = torch.from_numpy(array.copy())
            place += size
    except (struct.error, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a CTranslate2 file: {error}") from error
    return tensors


_CTRANSLATE2 = {
    "encoder/conv1": "encoder.conv1",
    "encoder/conv2": "encoder.conv2",
    "encoder/layer_norm": "encoder.final_norm",
    "decoder/layer_norm": "decoder.norm",
    "decoder/embeddings": "decoder.embedding",
    "self_attention/layer_norm": {"encoder": "attention_norm", "decoder": "self_attention_norm"},
}


def _from_ctranslate2(key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    key = key.replace("/gamma", "/weight").replace("/beta", "/bias")
    if key == "decoder/position_encodings/encodings":
        yield "decoder.positions", tensor
        return
    if key.endswith("/weight_scale"):
        raise CheckpointError(f"{key}: wanted a CTranslate2 model in float16 or float32, got a quantised one")
    found = re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)/(weight|bias)", key)
    if found is None:
        plain = re.fullmatch(r"((?:encoder|decoder)/\w+)/(weight|bias)", key)
        if plain and isinstance(name := _CTRANSLATE2.get(plain[1]), str):
            yield f"{name}.{plain[2]}", tensor
        return
    side, layer, module, kind = found.groups()
    prefix = f"{side}.blocks.{layer}"
    own = "attention" if side == "encoder" else "self_attention"
    targets = {
        "self_attention/layer_norm": [f"{own}_norm"],
        "self_attention/linear_0": [f"{own}.query", f"{own}.key", f"{own}.value"],
        "self_attention/linear_1": [f"{own}.out"],
        "attention/layer_norm": ["window_attention_norm"],
        "attention/linear_0": ["window_attention.query"],
        "attention/linear_1": ["window_attention.key", "window_attention.value"],
        "attention/linear_2": ["window_attention.out"],
        "ffn/layer_norm": ["feed_forward_norm"],
        "ffn/linear_0": ["feed_forward.0"],
        "ffn/linear_1": ["feed_forward.2"],
    }.get(module)
    if targets is None:
        raise CheckpointError(f"{key}: a tensor that no Whisper has")
    for target, part in zip(targets, tensor.chunk(len(targets)), strict=True):
        if not (target.endswith(".key") and kind == "bias"):  # the file holds zeros: Whisper's keys have no bias
            yield f"{prefix}.{target}.{kind}", part


_HUGGING_FACE = [
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"(encoder\.blocks\.\d+\.)self_attn_layer_norm", r"\1attention_norm"),
    (r"(encoder\.blocks\.\d+\.)self_attn\.", r"\1attention."),
    (r"self_attn_layer_norm", "self_attention_norm"),
    (r"self_attn\.", "self_attention."),
    (r"encoder_attn_layer_norm", "window_attention_norm"),
    (r"encoder_attn\.", "window_attention."),
    (r"q_proj", "query"),
    (r"k_proj", "key"),
    (r"v_proj", "value"),
    (r"out_proj", "out"),
    (r"\.fc1\.", ".feed_forward.0."),
    (r"\.fc2\.", ".feed_forward.2."),
    (r"\.final_layer_norm", ".feed_forward_norm"),
    (r"^encoder\.layer_norm", "encoder.final_norm"),
    (r"^decoder\.layer_norm", "decoder.norm"),
    (r"^decoder\.embed_tokens", "decoder.embedding"),
    (r"^decoder\.embed_positions\.weight", "decoder.positions"),
]

_OPENAI = [
    (r"(encoder\.blocks\.\d+\.)attn_ln", r"\1attention_norm"),
    (r"(encoder\.blocks\.\d+\.)attn\.", r"\1attention."),
    (r"cross_attn_ln", "window_attention_norm"),
    (r"cross_attn\.", "window_attention."),
    (r"attn_ln", "self_attention_norm"),
    (r"(decoder\.blocks\.\d+\.)attn\.", r"\1self_attention."),
    (r"mlp_ln", "feed_forward_norm"),
    (r"mlp\.", "feed_forward."),
    (r"^encoder\.ln_post", "encoder.final_norm"),
    (r"^decoder\.ln\.", "decoder.norm."),
    (r"^decoder\.token_embedding", "decoder.embedding"),
    (r"^decoder\.positional_embedding", "decoder.positions"),
]


def _from_hugging_face(key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if key != "proj_out.weight" and not key.endswith("encoder.embed_positions.weight"):  # the first is the embedding
        yield _substituted(key, _HUGGING_FACE), tensor


def _from_openai(key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if key != "encoder.positional_embedding":
        yield _substituted(key, _OPENAI), tensor


def _substituted(key: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
