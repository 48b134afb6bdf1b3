"""Processor time of checkpoints on the same utterances, in turns: their ratio, on a machine with other work.

python recipes/librispeech/side_by_side.py cuts/cuts_dev.jsonl.gz dense.safetensors spiking.safetensors --num 20
"""

import argparse
import json
import time
from pathlib import Path

import torch

from cifasr.audio.samples import SAMPLE_RATE_HZ
from cifasr.data.batches import load_cuts, load_samples
from cifasr.decoding.streaming import transcribe
from cifasr.models.pretrained import WeightFormat, load_model
from cifasr.training.validation import choose_cuts


def main() -> None:
    """Print the processor time of a second of audio for each checkpoint, and its ratio to the first's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--num", type=int, default=20)
    parser.add_argument("--weights", type=WeightFormat, default=WeightFormat.float32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = [load_model(path, arguments.weights) for path in arguments.checkpoints]
    spent, heard = [0.0] * len(models), 0.0
    for cut in choose_cuts(list(load_cuts([arguments.cuts])), arguments.num):
        samples = load_samples(cut)
        heard += len(samples) / SAMPLE_RATE_HZ
        for i, model in enumerate(models):
            begin = time.process_time()
            transcribe(model, samples)
            spent[i] += time.process_time() - begin
    for path, seconds in zip(arguments.checkpoints, spent, strict=True):
        row = {"checkpoint": str(path), "processor_time": seconds / heard, "ratio": seconds / spent[0]}
        print(json.dumps(row | {"audio_seconds": heard}))


if __name__ == "__main__":
    main()
