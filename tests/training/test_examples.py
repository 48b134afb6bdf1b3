import numpy as np
import pytest
import torch

from cifasr.audio.fbank import log_mel
from cifasr.audio.samples import write_samples
from cifasr.config import parse_config
from cifasr.data.batches import Utterance, load_utterance
from cifasr.errors import DataError
from cifasr.losses import IGNORE
from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.text.tokenizer import tokenizer_from_pieces
from cifasr.training.config import AugmentConfig, TrainConfig
from cifasr.training.examples import disguise_utterance, draw_context, make_examples, place_utterance
from tests.made_speech import TONES_HZ, make_cut, tiny_recipe

STILL = {"speeds": [1.0], "level_db": 0.0, "silence_probability": 0.0, "num_freq_masks": 0, "time_width": 0}
WORDS = [style(word) for word in TONES_HZ for style in (str, str.capitalize)]


def make_model(**decoder):
    recipe = tiny_recipe()["model"]
    recipe["decoder"] |= decoder
    return CifAsr(CifAsrConfig.model_validate(recipe), tokenizer_from_pieces({f" {word}": 1 for word in WORDS}))


def make_config(**sections):
    return parse_config(TrainConfig, tiny_recipe() | sections)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    words = [["go", "left", "no"], ["stop"], ["yes", "right", "go", "no"], ["no", "no"]]
    return [make_cut(folder, f"made-{i}", of_cut) for i, of_cut in enumerate(words)]


def test_borders_move_with_speed_and_with_the_noise_before():
    samples = np.zeros(16_000, np.float32)
    samples[8_000] = 1.0
    utterance = Utterance("a", samples, "Go", [4], [0.5])
    config = AugmentConfig(speeds=(0.8, 1.25), silence_probability=1.0, silence_seconds=0.5)

    heard = [place_utterance(utterance, config, np.random.default_rng(seed)) for seed in range(12)]

    for moved in heard:
        click = int(np.abs(moved.samples).argmax()) / 16_000
        assert moved.token_ends_s == [pytest.approx(click, abs=2e-4)]
        assert moved.samples.dtype == np.float32
    ends = [moved.token_ends_s[0] for moved in heard]
    assert min(ends) < 0.625 < max(ends)
    assert utterance.samples.sum() == 1.0  # what came in is as it was


def test_speech_sounds_in_rooms_and_noise_and_loses_its_high_frequencies(tmp_path):
    echo = np.zeros(4_000, np.float32)
    echo[[0, 3_200]] = 1.0, 0.5
    hiss = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    for name, sound in {"rooms/a/echo.flac": 0.9 * echo, "noises/hiss.wav": hiss}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        write_samples(tmp_path / name, sound, 16_000)
    samples = np.zeros(16_000, np.float32)
    samples[4_000] = 0.5
    click = Utterance("a", samples, "Go", [4], [0.25])
    still = AugmentConfig.model_validate(STILL)

    def heard(**changes):
        return disguise_utterance(click, still.model_copy(update=changes), np.random.default_rng(0)).samples

    in_room = heard(room_folder=tmp_path / "rooms", room_probability=1.0)
    assert in_room[7_200] / in_room[4_000] == pytest.approx(0.5, rel=0.01)
    noisy = heard(noise_folder=tmp_path / "noises", noise_probability=1.0, snr_db=(20.0, 20.0))
    noise = noisy - samples
    assert np.mean(samples**2) / np.mean(noise**2) == pytest.approx(100, rel=0.1)
    narrow = np.abs(np.fft.rfft(heard(band_probability=1.0, band_hz=(4000.0, 4000.0))))
    assert narrow[5_000:].max() < 0.01 * narrow[:3_000].min()
    np.testing.assert_array_equal(heard(room_folder=tmp_path / "rooms", room_probability=0.0), samples)


def test_a_folder_without_sounds_is_named(tmp_path):
    config = AugmentConfig(noise_folder=tmp_path, noise_probability=1.0)

    with pytest.raises(DataError, match=f"{tmp_path}: wanted a folder with sounds"):
        disguise_utterance(Utterance("a", np.ones(800, np.float32), "Go", [4], None), config, np.random.default_rng(0))


def test_an_utterance_without_borders_has_none_afterwards():
    utterance = Utterance("a", np.zeros(1_600, np.float32), "Go", [4], None)

    assert place_utterance(utterance, AugmentConfig(), np.random.default_rng(0)).token_ends_s is None


def test_without_augmentation_the_features_are_those_of_the_audio(cuts):
    model = make_model()

    examples = make_examples(cuts, model, make_config(augment=STILL), step=0)

    samples = torch.from_numpy(load_utterance(cuts[2], model.tokenizer).samples)
    assert examples.batch.feat_lens.tolist() == [130, 70, 160, 100]
    torch.testing.assert_close(examples.batch.feats[2, :160], log_mel(samples), rtol=0, atol=0)


def test_token_ends_are_counted_in_whole_frames_that_hold_the_border(cuts):
    examples = make_examples(cuts, make_model(), make_config(augment=STILL), step=0)

    # Words end at 0.5, 0.8, 1.1 and 1.4 s; a frame has 0.08 s, and 0.8 s is ten of them and not eleven.
    assert examples.token_ends.tolist() == [[7, 10, 14, 0], [7, 0, 0, 0], [7, 10, 14, 18], [7, 10, 0, 0]]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_an_utterance_is_the_same_alone_and_in_any_batch(cuts, step):
    model, config = make_model(), make_config()

    together = make_examples(cuts, model, config, step)
    turned = make_examples(cuts[::-1], model, config, step)
    for row, cut in enumerate(cuts):
        alone = make_examples([cut], model, config, step)
        assert alone.context == together.context == turned.context
        for examples, place in ((together, row), (turned, len(cuts) - 1 - row)):
            num_feats, num_queries = alone.batch.feats.shape[1], alone.queries.tokens.shape[1]
            num_tokens = alone.batch.targets.shape[1]
            assert int(examples.batch.feat_lens[place]) == num_feats
            assert torch.equal(examples.batch.feats[place, :num_feats], alone.batch.feats[0])
            assert torch.equal(examples.batch.targets[place, :num_tokens], alone.batch.targets[0])
            assert torch.equal(examples.token_ends[place, :num_tokens], alone.token_ends[0])
            assert torch.equal(examples.first_frame[place], alone.first_frame[0])
            for field in ("tokens", "window_starts", "window_ends", "answers"):
                got, want = getattr(examples.queries, field)[place], getattr(alone.queries, field)[0]
                assert torch.equal(got[:num_queries], want)


def test_another_step_and_another_seed_draw_anew(cuts):
    model, config = make_model(), make_config()

    first = make_examples(cuts, model, config, 0)
    others = [make_examples(cuts, model, config, 1), make_examples(cuts, model, make_config(seed=1), 0)]

    for other in others:
        assert first.first_frame.tolist() != other.first_frame.tolist()
        assert first.batch.feat_lens.tolist() != other.batch.feat_lens.tolist()


@pytest.mark.parametrize(("border", "window_ms"), [(1.0, 0), (0.0, 1600)])
def test_missing_borders_are_named_with_what_makes_them(tmp_path, border, window_ms):
    cut = make_cut(tmp_path, "made-7", ["go"], aligned=False)

    with pytest.raises(DataError, match=r"cut made-7: has no token borders; run `cifasr align` on its cuts"):
        make_examples([cut], make_model(window_ms=window_ms), make_config(loss={"border": border}), 0)


def test_borders_may_be_missing_where_nothing_needs_them(tmp_path):
    cut = make_cut(tmp_path, "made-7", ["go"], aligned=False)

    examples = make_examples([cut], make_model(window_ms=0), make_config(loss={"border": 0.0}), 0)

    assert examples.token_ends is None


def test_a_decoder_without_a_window_is_never_asked_for_a_cut_token(cuts):
    config = make_config(streaming={"nothing_probability": 1.0, "chunk_ms": [320]}, augment=STILL)

    answers = [
        make_examples(cuts, make_model(window_ms=window_ms), config, 0).queries.answers for window_ms in (0, 1600)
    ]

    asked = [answer[answer != IGNORE].tolist() for answer in answers]
    assert asked[0].count(2) == len(cuts)  # once each, at the end
    assert asked[1].count(2) > len(cuts)


def test_chunk_and_left_context_are_drawn_from_those_named():
    model, config = make_model(), make_config(streaming={"chunk_ms": [320, 640], "left_context_ms": [800]}).streaming

    drawn = [draw_context(model, config, np.random.default_rng(seed)) for seed in range(200)]

    full = [context for _, context in drawn if context.chunk_frames is None]
    assert {chunk_ms for chunk_ms, _ in drawn} == {320, 640}
    assert {(context.chunk_frames, context.left_frames) for _, context in drawn} == {(4, 10), (8, 10), (None, None)}
    assert 8 <= len(full) <= 35  # one in ten
