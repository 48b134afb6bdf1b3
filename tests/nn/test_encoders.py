import pytest
import torch

from cifasr.audio.fbank import SILENCE_FEATURE, log_mel
from cifasr.decoding.features import FeatureStream
from cifasr.nn.conformer import ConformerEncoder
from cifasr.nn.context import Context, attention_mask
from cifasr.nn.feed_forward import hidden_of
from cifasr.nn.subsampling import Subsampling
from cifasr.nn.weight_estimator import WeightEstimator
from cifasr.nn.whisper import NUM_POSITIONS, WhisperEncoder, sinusoids

ENCODERS = {"conformer": (ConformerEncoder, {"kernel_size": 4}), "whisper": (WhisperEncoder, {})}


@pytest.fixture(params=["conformer", "whisper", "spiking whisper", "spiking conformer"])
def encoder(request):
    hidden, _, name = request.param.rpartition(" ")
    kind, more = ENCODERS[name]
    return kind(num_layers=2, d_model=16, num_heads=2, d_ff=32, hidden=hidden_of(hidden or "dense", 4), **more).eval()


@pytest.fixture(params=["sigmoid", "lif"])
def estimator(request):
    return make_estimator(request.param)


def make_estimator(neuron, num_layers=2):
    more = {"detach_frames": False, "initial_weight": 0.1, "neuron": neuron}
    estimator = WeightEstimator(16, d_model=8, num_layers=num_layers, num_heads=2, kernel_size=3, **more).eval()
    torch.nn.init.normal_(estimator.head.weight)
    return estimator


@torch.no_grad()
def run(encoder, estimator, feats, context):
    """Encode and weigh one utterance, whole."""
    frames, lens = encoder(feats[None], torch.tensor([len(feats)]), context)
    return frames[0], estimator(frames, lens, context)[0]


@torch.no_grad()
def stream(encoder, estimator, samples, context):
    """Encode and weigh one utterance, chunk by chunk."""
    chunk_feats = None if context.chunk_frames is None else context.chunk_frames * encoder.subsampling
    features = FeatureStream(encoder, chunk_feats)
    encoder_state, estimator_state = encoder.init_state(), estimator.init_state()
    frames, weights = [], []
    for feats in [*features.accept(samples.numpy()), *features.finish()]:
        chunk, encoder_state = encoder.step(feats, encoder_state, context.left_frames)
        alpha, estimator_state = estimator.step(chunk, estimator_state, context.left_frames)
        frames.append(chunk[0])
        weights.append(alpha[0])
    return torch.cat(frames), torch.cat(weights)


@pytest.mark.parametrize(
    ("num_samples", "chunk_frames", "left_frames"),
    [
        (400, 4, 4),
        (9_999, 1, 0),
        (9_999, 1, 5),
        (16_000, 5, 1),
        (23_456, 4, None),
        (23_456, 7, 3),
        (23_456, 7, 30),
        (23_456, None, None),
    ],
)
def test_a_stream_computes_what_the_whole_does(encoder, estimator, num_samples, left_frames, chunk_frames):
    context = Context(chunk_frames, left_frames)
    samples = torch.randn(num_samples) * 0.1

    frames, weights = stream(encoder, estimator, samples, context)

    want_frames, want_weights = run(encoder, estimator, log_mel(samples), context)
    torch.testing.assert_close(frames, want_frames, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights, want_weights, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunks", [(19,), (1, 7, 11), (6, 6, 7)])
@torch.no_grad()
def test_leaky_neurons_forget_the_frames_that_come_again(chunks):
    estimator, frames = make_estimator("lif", num_layers=0), torch.randn(2, 19, 16)

    state, weights, first = estimator.init_state(2), [], 0
    for size in chunks:
        heard = frames[:, first : first + size + 3]
        chunk, state = estimator.step(heard, state, None, ahead_frames=heard.shape[1] - size)
        weights.append(chunk[:, :size])
        first += size

    want = estimator(frames, torch.tensor([19, 19]), Context())
    torch.testing.assert_close(torch.cat(weights, 1), want, rtol=0, atol=0)
    assert 0 < want.mean() < 1


@torch.no_grad()
def test_a_stream_past_the_last_position_computes_what_the_whole_does():
    encoder = WhisperEncoder(num_layers=1, d_model=16, num_heads=2, d_ff=32).eval()
    first_frame = torch.tensor(NUM_POSITIONS - 10)
    feats = torch.randn(1, 2 + 2 * 24 + 1, 80)

    state, frames = encoder.init_state() | {"num_frames": first_frame}, []
    for first in (0, 16, 32):
        chunk, state = encoder.step(feats[:, first : first + 2 + 16 + 1], state, 8)
        frames.append(chunk)

    x = encoder.embed(feats, first_frame)
    want = encoder.final_norm(encoder.blocks[0](x, attention_mask(torch.tensor([24]), 24, Context(8, 8))))
    torch.testing.assert_close(torch.cat(frames, dim=1), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("garbage", [1e6, torch.nan, torch.inf])
@torch.no_grad()
def test_what_lies_past_the_length_changes_nothing(encoder, estimator, garbage):
    context = Context(chunk_frames=3, left_frames=4)
    feats = torch.randn(3, 61, 80)
    feat_lens = torch.tensor([61, 40, 1])
    dirty = feats.clone()
    for row, length in enumerate(feat_lens.tolist()):
        dirty[row, length:] = garbage

    frames, lens = encoder(dirty, feat_lens, context)
    weights = estimator(frames, lens, context)

    for row, length in enumerate(feat_lens.tolist()):
        want_frames, want_weights = run(encoder, estimator, feats[row, :length], context)
        num_frames = lens[row]
        assert num_frames == len(want_frames)
        torch.testing.assert_close(frames[row, :num_frames], want_frames, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weights[row, :num_frames], want_weights, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_lies_past_the_lengths_of_the_frames_does_not_move_a_weight(estimator):
    frames, lens = torch.randn(2, 9, 16), torch.tensor([9, 5])
    dirty = frames.clone()
    dirty[1, 5:] = 1e4

    weights = estimator(dirty, lens, Context())

    torch.testing.assert_close(weights[1, :5], estimator(frames[1:, :5], lens[1:], Context())[0], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_nothing_past_the_chunk_and_the_look_ahead_is_seen(encoder):
    context = Context(chunk_frames=2)
    feats = torch.randn(1, 8 * encoder.subsampling, 80)
    changed = feats.clone()
    changed[:, 4 * encoder.subsampling + encoder.right_feats :] += 1.0  # after the second chunk

    before, lens = encoder(feats, torch.tensor([feats.shape[1]]), context)
    after, _ = encoder(changed, torch.tensor([feats.shape[1]]), context)

    assert lens.tolist() == [8]
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=1e-6)
    assert (after[:, 4:] - before[:, 4:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize(("num_feats", "conformer_frames", "whisper_frames"), [(1, 1, 1), (8, 1, 4), (9, 2, 5)])
@torch.no_grad()
def test_a_frame_that_has_begun_counts(num_feats, conformer_frames, whisper_frames):
    lens = {}
    for name, (kind, more) in ENCODERS.items():
        frames, lens[name] = kind(num_layers=1, d_model=16, num_heads=2, d_ff=32, **more)(
            torch.zeros(1, num_feats, 80), torch.tensor([num_feats]), Context()
        )
        assert frames.shape == (1, lens[name][0], 16)

    assert lens == {"conformer": torch.tensor([conformer_frames]), "whisper": torch.tensor([whisper_frames])}


@torch.no_grad()
def test_streams_that_move_together_are_independent(encoder):
    size = encoder.left_feats + 4 * encoder.subsampling + encoder.right_feats
    chunks = torch.randn(3, 2, size, 80)  # three chunks of two streams

    states = [encoder.init_state(2), encoder.init_state(1), encoder.init_state(1)]
    for chunk in chunks:
        both, states[0] = encoder.step(chunk, states[0], 5)
        first, states[1] = encoder.step(chunk[:1], states[1], 5)
        second, states[2] = encoder.step(chunk[1:], states[2], 5)

    torch.testing.assert_close(both, torch.cat([first, second]), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_state_of_a_stream_stops_growing(encoder):
    size = encoder.left_feats + 4 * encoder.subsampling + encoder.right_feats
    state = encoder.init_state()
    sizes = []

    for _ in range(6):
        _, state = encoder.step(torch.randn(1, size, 80), state, 6)
        sizes.append(sum(value.numel() for value in state.values()))

    assert sizes[0] < sizes[1] == sizes[2] == sizes[5]


@torch.no_grad()
def test_whisper_places_can_begin_anywhere_and_wrap():
    encoder = WhisperEncoder(num_layers=1, d_model=16, num_heads=2, d_ff=32).eval()
    feats = torch.full((2, 2 + 8 + 1, 80), SILENCE_FEATURE)

    embedded = encoder.embed(feats, torch.tensor([[NUM_POSITIONS - 2], [0]]))

    sound = embedded[1] - sinusoids(NUM_POSITIONS, 16)[:4]
    want = sound + sinusoids(NUM_POSITIONS, 16)[[NUM_POSITIONS - 2, NUM_POSITIONS - 1, 0, 1]]
    torch.testing.assert_close(embedded[0], want, atol=1e-5, rtol=1e-5)


def test_position_tables_begin_with_sine_zero_and_cosine_one():
    table = sinusoids(10, 4)

    torch.testing.assert_close(table[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    torch.testing.assert_close(table[3, [0, 2]], torch.tensor([3.0]).sin().new_tensor([0.14112, -0.98999]))


@torch.no_grad()
def test_a_subsampled_frame_sees_its_eight_features_and_seven_before():
    subsampling = Subsampling(80, 16, num_channels=4)
    feats = torch.randn(1, 8 + 3 * 8, 80)
    outputs = subsampling(feats)

    moved = []
    for place in range(feats.shape[1]):
        changed = feats.clone()
        changed[:, place] += 10.0
        moved.append((subsampling(changed) - outputs).abs().amax(-1)[0] > 1e-6)

    seen_by_second = torch.stack(moved)[:, 1].nonzero().flatten().tolist()
    assert outputs.shape == (1, 3, 16)
    assert seen_by_second == list(range(16 - 7, 16 + 8))


def test_before_training_every_frame_weighs_the_initial_weight():
    estimator = WeightEstimator(
        16, d_model=8, num_layers=1, num_heads=2, kernel_size=3, detach_frames=True, initial_weight=0.06
    )

    weights = estimator(torch.randn(2, 5, 16), torch.tensor([5, 3]), Context())

    torch.testing.assert_close(weights, torch.full((2, 5), 0.06))


@pytest.mark.parametrize("initial_weight", [0.06, 0.2])
@torch.no_grad()
def test_before_training_leaky_neurons_fire_about_as_often_as_a_frame_is_to_weigh(initial_weight):
    estimator = WeightEstimator(
        16,
        d_model=8,
        num_layers=1,
        num_heads=2,
        kernel_size=3,
        detach_frames=True,
        initial_weight=initial_weight,
        neuron="lif",
    )

    weights = estimator(torch.randn(2, 400, 16), torch.tensor([400, 400]), Context())

    assert float(weights.mean()) == pytest.approx(initial_weight, rel=0.25)


@pytest.mark.parametrize("detach_frames", [True, False])
def test_detached_frames_get_no_gradient_from_the_weights(detach_frames):
    estimator = WeightEstimator(
        16, d_model=8, num_layers=1, num_heads=2, kernel_size=3, detach_frames=detach_frames, initial_weight=0.1
    )
    torch.nn.init.normal_(estimator.head.weight)
    source = torch.randn(1, 5, 16, requires_grad=True)
    frames = source * 1.0

    (frames.sum() * 0.0 + estimator(frames, torch.tensor([5]), Context()).sum()).backward()

    assert (source.grad == 0).all().item() == detach_frames
