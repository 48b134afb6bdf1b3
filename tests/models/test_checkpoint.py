import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cifasr.errors import CheckpointError, ConfigError
from cifasr.models import checkpoint
from cifasr.models.checkpoint import content_version, load_checkpoint, read_notes, save_checkpoint
from cifasr.text.lexicon import Lexicon, count_words


@pytest.fixture
def saved(tiny_model, tmp_path):
    """A model and its file in float32."""
    model = tiny_model("conformer", ctc=True)
    save_checkpoint(model, tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


def rewritten(path, *, metadata=None, tensors=None):
    """Write a checkpoint again with other metadata or tensors; None leaves one out."""
    with safe_open(path, framework="pt") as file:
        content = file.metadata()
    values = {key: value for key, value in (content | (metadata or {})).items() if value is not None}
    weights = {key: value for key, value in (load_file(path) | (tensors or {})).items() if value is not None}
    save_file(weights, path, metadata=values)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 5e-4), ("int8", 4e-3)])
@pytest.mark.parametrize("kind", ["conformer", "whisper"])
def test_a_model_comes_back_within_the_precision_of_its_file(tiny_model, tmp_path, kind, dtype, tolerance):
    model = tiny_model(kind)
    save_checkpoint(model, tmp_path / "model.safetensors", dtype)

    loaded = load_checkpoint(tmp_path / "model.safetensors")

    assert not loaded.training
    for name, value in loaded.state_dict().items():
        want = model.state_dict()[name]
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, want, rtol=0, atol=tolerance * max(1e-9, want.abs().max().item()), msg=name)


def test_configuration_and_tokenizer_are_inside(saved):
    model, path = saved

    loaded = load_checkpoint(path)

    assert loaded.config == model.config
    assert loaded.tokenizer.model == model.tokenizer.model
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("the bed")) == "the bed"


def test_notes_can_be_read_without_the_weights(tiny_model, tmp_path):
    notes = {"data": "noise", "wer": "1.0"}
    save_checkpoint(tiny_model(), tmp_path / "a.safetensors", notes=notes)
    save_checkpoint(tiny_model(), tmp_path / "b.safetensors")

    assert read_notes(tmp_path / "a.safetensors") == notes
    assert read_notes(tmp_path / "b.safetensors") == {}


def test_eight_bits_take_about_a_quarter_of_thirty_two(tiny_model, tmp_path):
    model = tiny_model(width=128)
    for dtype in ("float32", "float16", "int8"):
        save_checkpoint(model, tmp_path / dtype, dtype)

    size = {dtype: (tmp_path / dtype).stat().st_size for dtype in ("float32", "float16", "int8")}

    assert 0.24 < size["int8"] / size["float32"] < 0.32
    assert 0.49 < size["float16"] / size["float32"] < 0.53


def test_a_row_of_zeros_survives_eight_bits(tiny_model, tmp_path):
    model = tiny_model()
    model.decoder.embedding.weight.data[5] = 0.0
    save_checkpoint(model, tmp_path / "model.safetensors", "int8")

    loaded = load_checkpoint(tmp_path / "model.safetensors")

    assert loaded.decoder.embedding.weight[5].tolist() == [0.0] * 16


def test_saving_makes_the_folder_and_leaves_one_file(tiny_model, tmp_path):
    save_checkpoint(tiny_model(), tmp_path / "new" / "model.safetensors")

    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.safetensors"]


def test_a_save_that_fails_leaves_the_old_file_as_it_was(saved, monkeypatch, tiny_model):
    _, path = saved
    before = path.read_bytes()

    def fail_half_way(tensors, part, metadata):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", fail_half_way)

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tiny_model(seed=1), path)
    assert path.read_bytes() == before


def test_a_save_replaces_the_old_file(saved, tiny_model):
    _, path = saved
    other = tiny_model("whisper")

    save_checkpoint(other, path)

    assert load_checkpoint(path).config == other.config


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)

    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(tmp_path / "bad")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_someone_else_is_refused(tmp_path, metadata):
    save_file({"x": torch.zeros(1)}, tmp_path / "other", metadata=metadata)

    with pytest.raises(CheckpointError, match="not a cifasr checkpoint"):
        load_checkpoint(tmp_path / "other")


def test_a_later_format_is_refused(saved):
    _, path = saved
    rewritten(path, metadata={"format_version": "2"})

    with pytest.raises(CheckpointError, match="checkpoint format '2'; this version reads '1'"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [4, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved, kept):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])

    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": None},
        {"config": "{"},
        {"config": '{"encoder": {"kind": "unheard of"}}'},
        {"config": '{"encoder": {"d_model": 30, "num_heads": 4}}'},
        {"tokenizer": None},
        {"tokenizer": "!"},
        {"tokenizer": "AAAA"},
    ],
)
def test_metadata_that_cannot_be_read_is_refused(saved, metadata):
    _, path = saved
    rewritten(path, metadata=metadata)

    with pytest.raises(CheckpointError, match="its configuration cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("decoder.norm.weight", None),
        ("decoder.norm.weight", torch.zeros(3)),
        ("decoder.norm.weight", torch.zeros(16, dtype=torch.int8)),
        ("decoder.more", torch.zeros(1)),
    ],
)
def test_tensors_that_are_missing_too_many_or_of_another_kind_are_refused_by_name(saved, name, tensor):
    _, path = saved
    rewritten(path, tensors={name: tensor})

    with pytest.raises(CheckpointError, match=rf"weights do not fit its configuration(.|\n)*{re.escape(name)}"):
        load_checkpoint(path)


@pytest.mark.parametrize("scale", [None, torch.ones(3)])
def test_eight_bits_without_their_scale_are_refused(tiny_model, tmp_path, scale):
    save_checkpoint(tiny_model(), tmp_path / "model.safetensors", "int8")
    rewritten(tmp_path / "model.safetensors", tensors={"decoder.embedding.weight.scale": scale})

    with pytest.raises(CheckpointError, match="weights do not fit its configuration"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("part", ["encoder", "estimator", "decoder"])
def test_heads_that_do_not_divide_the_width_are_refused(tiny_model, part):
    with pytest.raises(ConfigError, match=f"config key {part}: .*d_model: wanted a multiple of twice num_heads"):
        tiny_model(**{part: {"d_model": 20, "num_heads": 8}})


def test_a_decoder_that_would_hear_nothing_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="window_ms = 0 wants fired_embedding = true"):
        tiny_model(decoder={"window_ms": 0, "fired_embedding": False})


def test_the_metadata_is_what_others_can_read(saved):
    model, path = saved

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()

    assert metadata["format"] == "cifasr"
    assert json.loads(metadata["config"])["encoder"]["num_layers"] == model.config.encoder.num_layers


def test_a_version_is_that_of_the_content_whatever_the_name(tiny_model, tmp_path):
    save_checkpoint(tiny_model(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    save_checkpoint(tiny_model(), tmp_path / "c.safetensors", "float16")

    first, copied, other = (content_version(tmp_path / f"{name}.safetensors") for name in "abc")

    assert first == copied != other
    assert len(first) == 12


def test_a_lexicon_beside_a_checkpoint_comes_with_it(tiny_model, tmp_path):
    save_checkpoint(tiny_model(), tmp_path / "a.b.safetensors")
    alone = load_checkpoint(tmp_path / "a.b.safetensors")
    Lexicon(count_words(["word", "word"])).save(tmp_path / "a.b.words.safetensors")

    together = load_checkpoint(tmp_path / "a.b.safetensors")

    assert alone.lexicon is None
    assert together.lexicon is not None
    assert "word" in together.lexicon
