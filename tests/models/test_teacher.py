import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as TeacherTokenizer
from tokenizers import decoders, models, pre_tokenizers

from cifasr.errors import CheckpointError
from cifasr.models.checkpoint import load_checkpoint, save_checkpoint
from cifasr.models.teacher import Teacher, count_pieces, read_teacher
from cifasr.models.warm_start import frequent_pieces, warm_start
from cifasr.nn.whisper import sinusoids

D, FF, V = 64, 32, 51_864
HEADS = [[0, 0]]


def linear(name, num_in, num_out, *, bias=True):
    weights = {f"{name}.weight": torch.randn(num_out, num_in)}
    return weights | ({f"{name}.bias": torch.randn(num_out)} if bias else {})


def norm(name):
    return {f"{name}.weight": torch.randn(D), f"{name}.bias": torch.randn(D)}


def attention(name):
    weights = {}
    for part in ("query", "key", "value", "out"):
        weights |= linear(f"{name}.{part}", D, D, bias=part != "key")
    return weights


def block(name, attentions):
    weights = linear(f"{name}.feed_forward.0", D, FF) | linear(f"{name}.feed_forward.2", FF, D)
    for part in attentions:
        weights |= attention(f"{name}.{part}") | norm(f"{name}.{part}_norm")
    return weights | norm(f"{name}.feed_forward_norm")


@pytest.fixture(scope="session")
def weights():
    """A Whisper of one layer a side, under our own names; its values are exact in float16."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = {
            "encoder.conv1.weight": torch.randn(D, 80, 3),
            "encoder.conv1.bias": torch.randn(D),
            "encoder.conv2.weight": torch.randn(D, D, 3),
            "encoder.conv2.bias": torch.randn(D),
            "decoder.embedding.weight": torch.randn(V, D),
            "decoder.positions": torch.randn(448, D),
            **norm("encoder.final_norm"),
            **norm("decoder.norm"),
            **block("encoder.blocks.0", ["attention"]),
            **block("decoder.blocks.0", ["self_attention", "window_attention"]),
        }
    return {name: tensor.half().float() for name, tensor in tensors.items()}


def write_tokenizer(path):
    """Bytes as in GPT-2 and a few merges; the space is one of its letters, as "\u0120"."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("\u0120", "the"),
        ("\u0120", "a"),
        ("B", "o"),
        ("\u0120", "Bo"),
        ("\u0120Bo", "b"),
    ]
    vocab = {piece: i for i, piece in enumerate([*letters, *(a + b for a, b in merges)])}
    tokenizer = TeacherTokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))
    return vocab


HUGGING_FACE_NAMES = {
    "self_attention_norm": "self_attn_layer_norm",
    "window_attention_norm": "encoder_attn_layer_norm",
    "attention_norm": "self_attn_layer_norm",
    "self_attention": "self_attn",
    "window_attention": "encoder_attn",
    "attention": "self_attn",
    "feed_forward_norm": "final_layer_norm",
    "feed_forward.0": "fc1",
    "feed_forward.2": "fc2",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
}
OPENAI_NAMES = {
    "self_attention_norm": "attn_ln",
    "window_attention_norm": "cross_attn_ln",
    "attention_norm": "attn_ln",
    "self_attention": "attn",
    "window_attention": "cross_attn",
    "attention": "attn",
    "feed_forward_norm": "mlp_ln",
    "feed_forward": "mlp",
}


def renamed(name, parts):
    """Name a tensor of a block as another library does, part by part."""
    side, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    theirs = parts.get(module) or ".".join(parts.get(part, part) for part in module.split("."))
    return side, layer, f"{theirs}.{kind}"


def write_hugging_face(folder, weights):
    top = {
        "encoder.final_norm": "encoder.layer_norm",
        "decoder.norm": "decoder.layer_norm",
        "decoder.embedding": "decoder.embed_tokens",
    }
    tensors = {
        "model.encoder.embed_positions.weight": sinusoids(1500, D),
        "model.decoder.embed_positions.weight": weights["decoder.positions"],
    }
    for name, tensor in weights.items():
        if ".blocks." in name:
            side, layer, rest = renamed(name, HUGGING_FACE_NAMES)
            tensors[f"model.{side}.layers.{layer}.{rest}"] = tensor
        elif name != "decoder.positions":
            module, kind = name.rsplit(".", 1)
            tensors[f"model.{top.get(module, module)}.{kind}"] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"d_model": D, "model_type": "whisper"}))
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": HEADS}))
    return folder


def write_openai(folder, weights):
    top = {
        "encoder.final_norm": "encoder.ln_post",
        "decoder.norm": "decoder.ln",
        "decoder.embedding": "decoder.token_embedding",
    }
    tensors = {
        "encoder.positional_embedding": sinusoids(1500, D),
        "decoder.positional_embedding": weights["decoder.positions"],
    }
    for name, tensor in weights.items():
        if ".blocks." in name:
            side, layer, rest = renamed(name, OPENAI_NAMES)
            tensors[f"{side}.blocks.{layer}.{rest}"] = tensor
        elif name != "decoder.positions":
            module, kind = name.rsplit(".", 1)
            tensors[f"{top.get(module, module)}.{kind}"] = tensor
    content = {"dims": {"n_vocab": V, "n_text_state": D}, "model_state_dict": tensors}
    torch.save(content, folder / "tiny.en.pt")
    (folder / "config.json").write_text(json.dumps({"alignment_heads": HEADS}))
    return folder / "tiny.en.pt"


def ctranslate2_tensors(weights):
    """The same weights as CTranslate2 keeps them: projections of one input stacked, keys with a bias of zeros."""
    tensors = {
        "encoder/position_encodings/encodings": sinusoids(1500, D),
        "decoder/position_encodings/encodings": weights["decoder.positions"],
        "decoder/embeddings/weight": weights["decoder.embedding.weight"],
    }
    for side, name in (("encoder", "encoder.final_norm"), ("decoder", "decoder.norm")):
        tensors[f"{side}/layer_norm/gamma"] = weights[f"{name}.weight"]
        tensors[f"{side}/layer_norm/beta"] = weights[f"{name}.bias"]
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            tensors[f"encoder/{name}/{kind}"] = weights[f"encoder.{name}.{kind}"]
    for side, own, others in (("encoder", "attention", []), ("decoder", "self_attention", ["window_attention"])):
        ours, theirs = f"{side}.blocks.0", f"{side}/layer_0"
        stacks = {
            "self_attention/linear_0": [f"{own}.query", f"{own}.key", f"{own}.value"],
            "self_attention/linear_1": [f"{own}.out"],
            "ffn/linear_0": ["feed_forward.0"],
            "ffn/linear_1": ["feed_forward.2"],
        }
        norms = {"self_attention": f"{own}_norm", "ffn": "feed_forward_norm"}
        for other in others:
            stacks |= {
                "attention/linear_0": [f"{other}.query"],
                "attention/linear_1": [f"{other}.key", f"{other}.value"],
                "attention/linear_2": [f"{other}.out"],
            }
            norms["attention"] = f"{other}_norm"
        for module, parts in stacks.items():
            biases = [weights.get(f"{ours}.{part}.bias", torch.zeros(D)) for part in parts]
            tensors[f"{theirs}/{module}/weight"] = torch.cat([weights[f"{ours}.{part}.weight"] for part in parts])
            tensors[f"{theirs}/{module}/bias"] = torch.cat(biases)
        for module, name in norms.items():
            tensors[f"{theirs}/{module}/layer_norm/gamma"] = weights[f"{ours}.{name}.weight"]
            tensors[f"{theirs}/{module}/layer_norm/beta"] = weights[f"{ours}.{name}.bias"]
    return {name: tensor.half() for name, tensor in tensors.items()} | {"encoder/num_heads": torch.tensor(1).short()}


def write_ctranslate2(folder, tensors, spec="WhisperSpec"):
    def string(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    types = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.float16: 4}
    parts = [struct.pack("<I", 6), string(spec), struct.pack("<II", 3, len(tensors))]
    for name, tensor in tensors.items():
        data = tensor.contiguous().numpy().tobytes()
        parts += [string(name), struct.pack(f"<B{tensor.dim()}I", tensor.dim(), *tensor.shape)]
        parts += [struct.pack("<BI", types[tensor.dtype], len(data)), data]
    (folder / "model.bin").write_bytes(b"".join(parts))
    (folder / "config.json").write_text(json.dumps({"alignment_heads": HEADS}))
    return folder


@pytest.fixture(scope="session")
def sources(weights, tmp_path_factory):
    """The three files of one model, each in a folder with the tokenizer."""
    made = {}
    for name, write in (
        ("hugging_face", write_hugging_face),
        ("openai", write_openai),
        ("ctranslate2", lambda folder, weights: write_ctranslate2(folder, ctranslate2_tensors(weights))),
    ):
        folder = tmp_path_factory.mktemp(name)
        write_tokenizer(folder / "tokenizer.json")
        made[name] = write(folder, weights)
    return made


@pytest.fixture(scope="session")
def teacher(sources) -> Teacher:
    return read_teacher(sources["openai"])


@pytest.fixture(scope="session")
def vocab(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("vocab") / "tokenizer.json")


@pytest.mark.parametrize("kind", ["hugging_face", "openai", "ctranslate2"])
def test_every_format_holds_the_same_weights(sources, weights, kind):
    teacher = read_teacher(sources[kind])

    assert sorted(teacher.weights) == sorted(weights)
    for name, tensor in weights.items():
        assert torch.equal(teacher.weights[name], tensor), name
    assert teacher.num_heads == 1
    assert teacher.alignment_heads == ((0, 0),)
    assert (teacher.nothing_id, teacher.start_id, teacher.prompt_id) == (50256, 50257, 50362)


def test_a_file_that_is_named_is_read_whatever_lies_beside_it(sources, weights, tmp_path):
    write_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    write_ctranslate2(tmp_path, ctranslate2_tensors(weights))

    teacher = read_teacher(tmp_path / "model.bin")

    assert torch.equal(teacher.weights["decoder.positions"], weights["decoder.positions"])


def test_pieces_are_texts_with_the_space_in_front(teacher, vocab):
    assert teacher.pieces[vocab["\u0120the"]] == " the"
    assert teacher.pieces[vocab["the"]] == "the"
    assert teacher.pieces[vocab["\u0120"]] == " "
    assert len(teacher.pieces) == len(vocab)


def test_another_tokenizer_can_be_named(sources, tmp_path):
    write_tokenizer(tmp_path / "other.json")
    (sources["openai"].parent / "tokenizer.json").rename(tmp_path / "moved.json")

    try:
        named = read_teacher(sources["openai"], tmp_path / "other.json")
        with pytest.raises(CheckpointError, match=r"tokenizer\.json is not there; name it with --tokenizer"):
            read_teacher(sources["openai"])
    finally:
        (tmp_path / "moved.json").rename(sources["openai"].parent / "tokenizer.json")

    assert " the" in named.pieces.values()


@pytest.mark.parametrize("name", ["absent.pt", "absent", "model.bin", "model.safetensors"])
def test_what_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"wanted a folder with model\.safetensors or model\.bin, or a \.pt file"):
        read_teacher(tmp_path / name)


def test_a_file_of_another_kind_is_refused_even_beside_weights(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(CheckpointError, match="wanted a folder"):
        read_teacher(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny.pt", "not an openai-whisper checkpoint"),
        ("model.bin", "not a CTranslate2 file"),
        ("model.safetensors", "not a safetensors file"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 1000])
def test_bytes_that_are_no_weights_are_refused(tmp_path, name, message, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=message):
        read_teacher(tmp_path / name)


@pytest.mark.parametrize("content", [{"state": {}}, [1, 2], {"model_state_dict": {}}])
def test_a_torch_file_of_someone_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")

    with pytest.raises(CheckpointError, match="not a"):
        read_teacher(tmp_path / "other.pt")


def test_a_ctranslate2_model_that_is_no_whisper_is_refused(tmp_path):
    write_ctranslate2(tmp_path, {}, spec="TransformerSpec")

    with pytest.raises(CheckpointError, match="a CTranslate2 file, but not of a Whisper"):
        read_teacher(tmp_path)


def test_a_truncated_ctranslate2_file_is_refused(sources, tmp_path):
    content = (sources["ctranslate2"] / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(content[: len(content) // 2])

    with pytest.raises(CheckpointError, match="not a CTranslate2 file"):
        read_teacher(tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"encoder/layer_0/ffn/linear_0/weight_scale": torch.ones(FF)}, "got a quantised one"),
        ({"encoder/layer_0/ffn/linear_7/weight": torch.ones(1)}, "linear_7/weight: a tensor that no Whisper has"),
    ],
)
def test_ctranslate2_tensors_that_would_be_misread_are_refused(weights, tmp_path, more, message):
    write_ctranslate2(tmp_path, ctranslate2_tensors(weights) | more)

    with pytest.raises(CheckpointError, match=message):
        read_teacher(tmp_path)


def test_a_file_that_lacks_what_every_whisper_has_is_refused(tmp_path):
    save_file({"model.encoder.conv1.weight": torch.zeros(2)}, tmp_path / "model.safetensors")

    with pytest.raises(
        CheckpointError, match=r"not a Whisper checkpoint: nothing in it stands for encoder\.final_norm"
    ):
        read_teacher(tmp_path)


def test_a_multilingual_whisper_is_refused(weights, tmp_path):
    write_tokenizer(tmp_path / "tokenizer.json")
    write_hugging_face(tmp_path, weights | {"decoder.embedding.weight": torch.zeros(V + 1, D)})

    with pytest.raises(CheckpointError, match=r"wanted an English-only Whisper \(51864 tokens\), got 51865 tokens"):
        read_teacher(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("tokenizer.json", "{"), ("config.json", "{"), ("config.json", "[]")])
def test_damaged_files_beside_the_weights_are_named(weights, tmp_path, name, content):
    write_tokenizer(tmp_path / "tokenizer.json")
    write_hugging_face(tmp_path, weights)
    (tmp_path / name).write_text(content)

    with pytest.raises(CheckpointError, match=name):
        read_teacher(tmp_path)


def test_words_are_counted_as_the_teacher_would_write_them(tmp_path):
    vocab = write_tokenizer(tmp_path / "tokenizer.json")

    counts = count_pieces(tmp_path / "tokenizer.json", ["THE bob", "the"])

    assert counts[vocab["\u0120the"]] == 2
    assert counts[vocab["\u0120Bob"]] == 1  # one piece with a capital and several without: a name
    assert vocab["b"] not in counts
    assert counts[vocab["T"]] == pytest.approx(0.06)  # " The" is spelled; a few sentences begin with it


def hand_teacher(pieces):
    return Teacher({}, 1, (), pieces, nothing_id=90, start_id=91, prompt_id=92)


def test_characters_are_always_kept_then_the_most_frequent():
    teacher = hand_teacher({0: "a", 1: "b", 2: " ", 3: " the", 4: "ing", 5: " rare", 6: "\u00e9", 7: "a b", 8: "\n"})
    counts = {0: 2, 3: 9, 4: 7, 5: 1, 6: 50, 7: 60, 8: 70}

    assert frequent_pieces(teacher, counts, 5) == {3: 9.0, 4: 7.0, 0: 2.0, 1: 0.5, 2: 0.5}
    assert list(frequent_pieces(teacher, counts, 5)) == [3, 4, 0, 1, 2]
    assert list(frequent_pieces(teacher, counts, 100)) == [3, 4, 0, 5, 1, 2]


@pytest.mark.parametrize("vocab_size", [0, 1, 2])
def test_a_vocabulary_too_small_for_the_characters_holds_them_alone(vocab_size):
    teacher = hand_teacher({0: "a", 1: "b", 2: " the", 3: "ing", 4: " and"})

    assert sorted(frequent_pieces(teacher, {2: 5, 3: 4, 4: 3}, vocab_size)) == [0, 1]


def test_of_pieces_that_are_as_frequent_the_lower_id_is_kept():
    teacher = hand_teacher({3: " x1", 2: " x2", 0: "a"})

    assert list(frequent_pieces(teacher, {3: 5, 2: 5}, 2)) == [2, 0]


def test_a_warm_start_keeps_the_teachers_weights_and_the_rows_of_its_pieces(teacher, vocab, weights):
    counts = {vocab["\u0120the"]: 10.0, vocab["\u0120a"]: 5.0, vocab["e"]: 3.0}

    model = warm_start(teacher, counts, vocab_size=97, name="small")

    rows, tokenizer = model.decoder.embedding.weight, model.tokenizer
    assert model.config.name == "small"
    assert model.config.alignment_heads == ((0, 0),)
    assert tokenizer.vocab_size == 4 + 97  # 95 printable characters, " the" and " a"
    for text, piece in ((" the", "\u0120the"), (" a", "\u0120a"), ("e", "e"), ("Q", "Q"), (" ", "\u0120")):
        (token_id,) = (i for i in range(4, 101) if tokenizer.piece_text(i) == text)
        assert torch.equal(rows[token_id], weights["decoder.embedding.weight"][vocab[piece]]), text
    for token_id, theirs in ((tokenizer.start_id, 50257), (tokenizer.nothing_id, 50256), (3, 50362)):
        assert torch.equal(rows[token_id], weights["decoder.embedding.weight"][theirs])
    for name, value in model.state_dict().items():
        if name in weights and name != "decoder.embedding.weight":
            assert torch.equal(value, weights[name]), name
    assert torch.equal(model.encoder.positions, sinusoids(1500, D))


def test_a_warm_start_writes_with_the_pieces_it_kept(teacher, vocab):
    model = warm_start(teacher, {vocab["\u0120the"]: 10.0}, vocab_size=96)

    ids = model.tokenizer.encode("the Zoo")

    assert [model.tokenizer.piece_text(i) for i in ids] == [" the", " ", "Z", "o", "o"]
    assert model.tokenizer.prompt_ids == (1, 3)


def test_a_warm_start_comes_back_from_its_checkpoint(teacher, vocab, tmp_path):
    model = warm_start(teacher, {vocab["\u0120the"]: 10.0}, vocab_size=96)
    save_checkpoint(model, tmp_path / "start.safetensors")

    loaded = load_checkpoint(tmp_path / "start.safetensors")

    assert loaded.config == model.config
    assert torch.equal(loaded.decoder.embedding.weight, model.decoder.embedding.weight)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.conv2.bias",
        "encoder.blocks.0.feed_forward.0.weight",
        "encoder.blocks.0.attention.key.weight",
        "decoder.blocks.0.window_attention.out.bias",
        "decoder.norm.bias",
    ],
)
def test_a_teacher_that_lost_a_tensor_is_refused_by_its_name(teacher, name):
    lossy = replace(teacher, weights={key: value for key, value in teacher.weights.items() if key != name})

    with pytest.raises(CheckpointError, match=f"teacher: no weights for {name}"):
        warm_start(lossy, {}, vocab_size=95)


def test_a_teacher_with_a_tensor_that_no_whisper_has_is_refused(teacher):
    strange = replace(teacher, weights=teacher.weights | {"encoder.more": torch.zeros(1)})

    with pytest.raises(CheckpointError, match=r"teacher: weights that no Whisper has: encoder\.more"):
        warm_start(strange, {}, vocab_size=95)


def test_a_teacher_whose_tensors_do_not_fit_each_other_is_refused(teacher):
    strange = replace(teacher, weights=teacher.weights | {"decoder.norm.bias": torch.zeros(3)})

    with pytest.raises(CheckpointError, match=r"do not fit each other(.|\n)*decoder\.norm\.bias"):
        warm_start(strange, {}, vocab_size=95)
