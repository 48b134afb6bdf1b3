"""What a recipe may say; its file holds the differences from these defaults."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cifasr.config import Config
from cifasr.models.cif_asr import CifAsrConfig


class DataConfig(Config):
    """Which cuts, and how many together. Names are splits: ``cuts_NAME.jsonl.gz`` in the folder of cuts."""

    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = Field(min_length=1)
    batch_seconds: float = Field(80.0, gt=0.0)
    num_buckets: int = Field(10, ge=1)
    min_seconds: float = Field(0.5, ge=0.0)
    max_seconds: float = Field(25.0, gt=0.0)


class AugmentConfig(Config):
    """What makes the same speech sound new; drawn for each utterance from the seed, the pass and the utterance."""

    speeds: tuple[float, ...] = Field((0.9, 1.0, 1.1), min_length=1)
    level_db: float = Field(6.0, ge=0.0, description="level is changed by up to this much, up or down")
    silence_seconds: float = Field(2.0, ge=0.0, description="longest faint noise put before or after the speech")
    silence_probability: float = Field(0.3, ge=0.0, le=1.0)
    room_folder: Path | None = Field(None, description="impulse responses, audio files at any depth")
    room_probability: float = Field(0.3, ge=0.0, le=1.0, description="of speech sounding in one of the rooms")
    noise_folder: Path | None = Field(None, description="noises, audio files at any depth")
    noise_probability: float = Field(0.5, ge=0.0, le=1.0)
    snr_db: tuple[float, float] = Field((5.0, 30.0), description="least and most speech over noise")
    band_probability: float = Field(0.0, ge=0.0, le=1.0, description="of losing the high frequencies, as telephones do")
    band_hz: tuple[float, float] = Field((3400.0, 7000.0), description="least and most bandwidth then")
    num_freq_masks: int = Field(2, ge=0)
    freq_width: int = Field(15, ge=0, description="largest mask, in mel bins")
    frames_per_time_mask: int = Field(300, gt=0, description="one time mask for each stretch of so many 10 ms frames")
    time_width: int = Field(25, ge=0, description="largest mask, in 10 ms frames")


class StreamingConfig(Config):
    """How chunks and windows are drawn, so that one model runs at any of them."""

    chunk_ms: tuple[int, ...] = Field((320, 640, 1280), min_length=1)
    left_context_ms: tuple[int, ...] = Field((5120, 10240, 20480), min_length=1)
    full_context_probability: float = Field(0.1, ge=0.0, le=1.0)
    delay_probabilities: tuple[float, ...] = Field(
        (0.65, 0.25, 0.10), min_length=1, description="of a token being asked for 0, 1, 2... chunks late"
    )
    nothing_probability: float = Field(
        0.35, ge=0.0, le=1.0, description='of a token cut by a chunk\'s end being asked for there: "nothing"'
    )
    history_noise: float = Field(0.04, ge=0.0, le=1.0, description="share of the history replaced by random tokens")

    border_firing: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="of an utterance whose tokens are fired at their true borders, in place of the neuron's",
    )

    @model_validator(mode="after")
    def _delays_are_a_distribution(self) -> "StreamingConfig":
        if min(self.delay_probabilities) < 0 or abs(sum(self.delay_probabilities) - 1) > 1e-6:
            raise ValueError(f"delay_probabilities: wanted numbers that sum to 1, got {self.delay_probabilities}")
        return self


class LossConfig(Config):
    """Weights of the losses; 0 leaves one out."""

    label_smoothing: float = Field(0.05, ge=0.0, lt=1.0)
    border: float = Field(1.0, ge=0.0)
    silence: float = Field(0.5, ge=0.0)
    quantity: float = Field(0.0, ge=0.0)
    ctc: float = Field(0.0, ge=0.0)
    frame: float = Field(0.0, ge=0.0, description="of the CTC branch telling the token spoken in each frame")
    activity: float = Field(
        0.0, ge=0.0, description="of the mean hidden value of the encoder's relu or spiking feed-forwards"
    )


class TeacherConfig(Config):
    """A model that hears every utterance whole and undisturbed, and what is taken from it; 0 leaves a loss out."""

    checkpoint: Path = Field(description="with the same vocabulary and width, such as the one the run starts from")
    frames: float = Field(1.0, ge=0.0, description="weight of the distance between the encoders' frames")
    tokens: float = Field(0.5, ge=0.0, description="weight of the teacher's distribution of each token")


class ConversionConfig(Config):
    """How a checkpoint's dense feed-forwards become events before a run starts from it."""

    feed_forward: Literal["relu", "spiking"]
    spike_steps: int = Field(4, ge=1, description="for which thresholds are set; relu is silent where spikes would be")
    num_utterances: int = Field(16, ge=1, description="of the training cuts, from which thresholds are set")


class OptimConfig(Config):
    """AdamW with one learning rate for each part, warm-up, a flat stretch and a cosine to zero."""

    num_steps: int = Field(ge=1)
    encoder_lr: float = Field(4e-5, ge=0.0)
    decoder_lr: float = Field(1e-5, ge=0.0)
    new_lr: float = Field(
        1e-3, ge=0.0, description="of what starts at random beside a warm start: estimator, CTC branch"
    )
    warmup_steps: int = Field(50, ge=0)
    flat_fraction: float = Field(0.25, ge=0.0, le=1.0, description="of the steps before the cosine begins")
    weight_decay: float = Field(0.01, ge=0.0)
    clip_norm: float = Field(1.0, gt=0.0, description="of each part's gradient")
    accumulate: int = Field(1, ge=1, description="batches a step")
    ema_decay: float = Field(0.99, ge=0.0, lt=1.0)
    ema_from: float = Field(0.5, ge=0.0, le=1.0, description="fraction of the steps after which weights are averaged")


class ValidationConfig(Config):
    """When the dev speakers are transcribed, how, and how many utterances of them (0: all)."""

    every_steps: int = Field(100, ge=1)
    max_utterances: int = Field(60, ge=0)
    chunk_ms: int | None = 640
    left_context_ms: int = 10240


class TrainConfig(Config):
    """A training run."""

    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_minutes: float = Field(3.0, gt=0.0)
    model: CifAsrConfig | None = Field(None, description="from random weights; leave out to start from a checkpoint")
    vocab_size: int = Field(1000, ge=8, description="sub-words of a model from random weights")
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    streaming: StreamingConfig = StreamingConfig()
    loss: LossConfig = LossConfig()
    teacher: TeacherConfig | None = None
    conversion: ConversionConfig | None = Field(None, description="of the checkpoint that the run starts from")
    spike_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="steps a frame of spiking feed-forwards, one drawn in each step; none: the model's own"
    )
    optim: OptimConfig
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _ctc_has_a_branch(self) -> "TrainConfig":
        if self.loss.ctc + self.loss.frame > 0 and self.model is not None and not self.model.ctc:
            raise ValueError("loss.ctc > 0 and loss.frame > 0 want model.ctc = true")
        return self

    @model_validator(mode="after")
    def _what_is_converted_was_trained(self) -> "TrainConfig":
        if self.conversion is not None and self.model is not None:
            raise ValueError("conversion: wanted none beside [model]; there, say model.encoder.feed_forward")
        return self
