"""The one training loop: CPU or GPU, one process or many, and exactly resumable."""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifasr.data.batches import bucketed_batches, written_style
from cifasr.errors import DataError
from cifasr.models.checkpoint import load_checkpoint, save_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.spiking.activation import set_spike_steps
from cifasr.training.checkpointing import load_state, save_state
from cifasr.training.config import TrainConfig
from cifasr.training.distributed import Processes
from cifasr.training.dtype import autocast
from cifasr.training.examples import make_examples
from cifasr.training.journal import Journal
from cifasr.training.objective import Objective, Term
from cifasr.training.optim import build_optimizer, clip_gradients, learning_rate_factor
from cifasr.training.validation import choose_cuts, validate

_JOURNAL_STEPS = 10
_ExamplesT = TypeVar("_ExamplesT")


@dataclass
class _Place:
    """Where a run is: the step to do next, the batch to read next, and the last step at which dev was transcribed."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    validated: int = 0
    best_wer: float = float("inf")


class Trainer:
    """Trains one model in one folder.

    Args:
        model: The model as it starts.
        config: The run.
        train_cuts: What is learned from.
        dev_cuts: What chooses the checkpoint.
        out: The run's folder. A state in it is gone on from.
        processes: Who this process is.
    """

    def __init__(
        self,
        model: CifAsr,
        config: TrainConfig,
        train_cuts: CutSet,
        dev_cuts: Sequence[Cut],
        out: Path,
        processes: Processes,
    ) -> None:
        self._config, self._out, self._processes = config, out, processes
        self._model = model.to(processes.device)
        self._train_cuts = usable_cuts(train_cuts, config, model)
        self._dev_cuts = choose_cuts(dev_cuts, config.validation.max_utterances)
        teacher = None
        if config.teacher is not None:
            teacher = load_checkpoint(config.teacher.checkpoint).to(processes.device)
        self._objective: nn.Module = Objective(self._model, config.loss, config.teacher, teacher)
        if processes.world_size > 1:
            self._objective = DistributedDataParallel(self._objective)
        self._optimizer = build_optimizer(self._model, config.optim)
        self._base_lrs = [group["lr"] for group in self._optimizer.param_groups]
        average = get_ema_multi_avg_fn(config.optim.ema_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self._model, multi_avg_fn=average)
        self._place = _Place()
        self._resume()

    def train(self) -> float:
        """Run to the last step.

        Returns:
            The lowest dev WER; its weights are in ``best.safetensors``.
        """
        journal = None
        if self._processes.is_first:
            journal = Journal(self._out, self._place.step, self._config.optim.num_steps)
        try:
            self._run(journal)
        finally:
            if journal is not None:
                journal.close()
        return self._place.best_wer

    def _run(self, journal: Journal | None) -> None:
        config, place = self._config, self._place
        saved_at = time.monotonic()
        batches = self._batches()
        window = _Window()
        if self._is_due() and place.validated < place.step:  # it was killed while it transcribed
            self._validate(journal)
            self._save()
        while place.step < config.optim.num_steps:
            self._step([next(batches) for _ in range(config.optim.accumulate)], window)
            place.step += 1
            if journal is not None and (place.step % _JOURNAL_STEPS == 0 or place.step == config.optim.num_steps):
                journal.write(place.step, window.figures(self._optimizer))
                window = _Window()
            if self._is_due():
                self._save()  # minutes of transcribing follow
                self._validate(journal)
                window = _Window()
            if self._is_due() or time.monotonic() - saved_at > 60 * config.checkpoint_minutes:
                self._save()
                saved_at = time.monotonic()

    def _step(self, batches: list[list[Cut]], window: "_Window") -> None:
        """Learn from some batches: gradients of all of them, then one step of the optimizer."""
        config, place = self._config, self._place
        torch.manual_seed(config.seed * 1_000_003 + place.step)
        self._model.train()
        for group, lr in zip(self._optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * learning_rate_factor(place.step, config.optim)
        self._optimizer.zero_grad(set_to_none=True)
        if config.spike_steps:
            drawn = int(torch.randint(len(config.spike_steps), ()))
            set_spike_steps(self._model.encoder, config.spike_steps[drawn])
        for part, cuts in enumerate(batches):
            draw = place.step * config.optim.accumulate + part
            examples = make_examples(self._processes.share(cuts), self._model, config, draw)
            examples = to_device(examples, self._processes.device)
            with autocast(config.dtype, self._processes.device):
                terms: dict[str, Term] = self._objective(examples)
            loss = torch.zeros((), device=self._processes.device)
            own = float(self._processes.has_share(len(cuts)))
            for name, term in terms.items():
                count = self._processes.sum(own * term.count)
                # Processes average their gradients; what is wanted is the gradient of the whole batch's mean.
                loss = loss + own * term.weight * term.total / count.clamp_min(1) * self._processes.world_size
                window.add(name, float(self._processes.sum(own * term.total)), float(count))
            (loss / len(batches)).backward()  # type: ignore[no-untyped-call]
            window.audio_seconds += sum(float(cut.duration) for cut in cuts)
        window.norms = clip_gradients(self._optimizer, config.optim.clip_norm)
        self._optimizer.step()
        if place.step >= config.optim.ema_from * config.optim.num_steps:
            self._average.update_parameters(self._model)

    def _batches(self) -> Iterator[list[Cut]]:
        """Give out global batches for ever, from where the run is on; the same for every process."""
        config, place = self._config, self._place
        while True:
            first = place.batch
            batches = bucketed_batches(
                self._train_cuts,
                max_seconds=config.data.batch_seconds,
                num_buckets=config.data.num_buckets,
                seed=config.seed,
                epoch=place.epoch,
            )
            for index, batch in enumerate(batches):
                if index >= first:
                    place.batch = index + 1
                    yield batch
            place.epoch, place.batch = place.epoch + 1, 0

    def _is_due(self) -> bool:
        """Say whether dev is to be transcribed after the steps done."""
        step = self._place.step
        return step > 0 and (step % self._config.validation.every_steps == 0 or step == self._config.optim.num_steps)

    def _validate(self, journal: Journal | None) -> None:
        place = self._place
        place.validated = place.step
        if journal is None:
            return
        model = copy.deepcopy(self.averaged_model()).cpu().eval()
        if self._config.spike_steps:
            set_spike_steps(model.encoder, model.config.encoder.spike_steps)
        report = validate(model, self._dev_cuts, self._config.validation)
        journal.write(place.step, {"dev_wer": report.wer, "dev_cer": report.cer})
        journal.draw()
        notes = {"step": str(place.step), "dev_wer": f"{report.wer:.4f}", "dev_utterances": str(len(self._dev_cuts))}
        save_checkpoint(model, self._out / "last.safetensors", notes=notes)
        if report.wer <= place.best_wer:
            place.best_wer = report.wer
            save_checkpoint(model, self._out / "best.safetensors", notes=notes)

    def averaged_model(self) -> CifAsr:
        """Return the average of the weights, or the weights themselves where averaging has not begun."""
        model = self._average.module if int(self._average.n_averaged) else self._model
        assert isinstance(model, CifAsr)
        return model

    def _save(self) -> None:
        if not self._processes.is_first:
            return
        save_state(
            self._out,
            {
                "model": self._model.state_dict(),
                "average": self._average.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "place": vars(self._place),
            },
        )

    def _resume(self) -> None:
        state = load_state(self._out)
        if state is None:
            return
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._place = _Place(**state["place"])


class _Window:
    """Figures summed over the steps since the last line of the journal."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._started = time.monotonic()
        self.audio_seconds = 0.0
        self.norms: dict[str, float] = {}

    def add(self, name: str, total: float, count: float) -> None:
        """Add a term of one batch."""
        old_total, old_count = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (old_total + total, old_count + count)

    def figures(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Give the means, with the speed in seconds of audio a second of wall clock."""
        watched = ("accuracy", "count_error")
        means = {
            name if name in watched else f"loss_{name}": total / max(1.0, count)
            for name, (total, count) in self._sums.items()
        }
        rates = {f"lr_{group['name']}": float(group["lr"]) for group in optimizer.param_groups}
        norms = {f"norm_{name}": norm for name, norm in self.norms.items()}
        speed = self.audio_seconds / max(1e-9, time.monotonic() - self._started)
        return means | norms | rates | {"audio_seconds": self.audio_seconds, "audio_seconds_per_second": speed}


def usable_cuts(cuts: CutSet, config: TrainConfig, model: CifAsr) -> CutSet:
    """Leave out cuts that are too short, too long, without text, or with more text than the decoder can hold.

    Raises:
        DataError: None is left.
    """
    data, tokenizer = config.data, model.tokenizer
    longest = model.config.decoder.max_tokens - len(tokenizer.prompt_ids)

    def usable(cut: Cut) -> bool:
        text = cut.supervisions[0].text if len(cut.supervisions) == 1 else None
        if not text or not data.min_seconds <= cut.duration <= data.max_seconds:
            return False
        return len(tokenizer.encode(written_style(text))) <= longest

    kept = cuts.filter(usable)
    if next(iter(kept), None) is None:
        raise DataError(
            f"data: no cut between {data.min_seconds} and {data.max_seconds} s with a text of 1 to {longest} tokens"
        )
    return kept


def to_device(value: _ExamplesT, device: torch.device) -> _ExamplesT:
    """Move every tensor in a tree of dataclasses."""
    moved: dict[str, Any] = {}
    if not is_dataclass(value) or isinstance(value, type):
        return value
    for field in fields(value):
        item = getattr(value, field.name)
        moved[field.name] = item.to(device) if isinstance(item, torch.Tensor) else to_device(item, device)
    return replace(value, **moved)
