"""Speech made of tones, one a word, whose borders are known to the sample; and the least recipe that learns it."""

import tomllib
from pathlib import Path

import numpy as np
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from cifasr.audio.samples import write_samples

TONES_HZ = {"go": 300, "left": 500, "no": 800, "stop": 1300, "yes": 2100, "right": 3400}
WORD_SECONDS = 0.3

TINY_RECIPE = """
dtype = "float32"
checkpoint_minutes = 1e-9
vocab_size = 24

[data]
train = ["train"]
dev = ["dev"]
batch_seconds = 6
num_buckets = 2

[model.encoder]
num_layers = 1
d_model = 32
num_heads = 2
d_ff = 64
kernel_size = 3

[model.estimator]
num_layers = 1
d_model = 16
num_heads = 2
kernel_size = 3

[model.decoder]
num_layers = 1
d_model = 32
num_heads = 2
d_ff = 64
window_ms = 1600

[optim]
num_steps = 16
encoder_lr = 3e-3
decoder_lr = 3e-3
warmup_steps = 4

[validation]
every_steps = 8
max_utterances = 2
"""


def tiny_recipe():
    return tomllib.loads(TINY_RECIPE)


def make_cut(folder: Path, name: str, words: list[str], *, aligned: bool = True, pad_seconds: float = 0.2) -> MonoCut:
    """Write one utterance: silence, a tone a word, silence. Its supervision says where each word ends."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = np.arange(int(WORD_SECONDS * 16_000)) / 16_000
    silence = np.zeros(int(pad_seconds * 16_000))
    tones = [0.3 * np.sin(2 * np.pi * TONES_HZ[word] * moment) * np.hanning(len(moment)) for word in words]
    samples = np.concatenate([silence, *tones, silence]).astype(np.float32)
    write_samples(folder / f"{name}.wav", samples, 16_000)
    seconds = len(samples) / 16_000
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=str(folder / f"{name}.wav"))],
        sampling_rate=16_000,
        num_samples=len(samples),
        duration=seconds,
    )
    supervision = SupervisionSegment(
        id=name, recording_id=name, start=0.0, duration=seconds, text=" ".join(words).upper(), speaker=name[0]
    )
    if aligned:
        starts = [pad_seconds + WORD_SECONDS * i for i in range(len(words))]
        items = [AlignmentItem(word, start, WORD_SECONDS) for word, start in zip(words, starts, strict=True)]
        supervision = supervision.with_alignment("token", items)
    return MonoCut(id=name, start=0.0, duration=seconds, channel=0, supervisions=[supervision], recording=recording)


def make_cuts(folder: Path, split: str, num_utterances: int, *, aligned: bool = True) -> Path:
    """Write a split of one to five words an utterance, and its manifest."""
    rng = np.random.default_rng(len(split))
    cuts = [
        make_cut(
            folder / "audio",
            f"{split}-{i}",
            [str(word) for word in rng.choice(list(TONES_HZ), 1 + i % 5)],
            aligned=aligned,
        )
        for i in range(num_utterances)
    ]
    path = folder / f"cuts_{split}.jsonl.gz"
    CutSet.from_cuts(cuts).to_file(path)
    return path
