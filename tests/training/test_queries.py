import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifasr.losses import IGNORE
from cifasr.text.tokenizer import tokenizer_from_pieces
from cifasr.training.config import StreamingConfig
from cifasr.training.queries import collate_queries, draw_queries

TOKENIZER = tokenizer_from_pieces({" go": 4, " no": 3, "s": 2, "t": 1})  # ids 4 to 7; 3 is the prompt, 2 "nothing"
START, NOTHING, PROMPT = 1, 2, 3
GO, NO, S, T = 4, 5, 6, 7

CERTAIN = StreamingConfig(delay_probabilities=(1.0,), nothing_probability=0.0, history_noise=0.0)


def draw(token_ids, token_ends, num_frames, config=CERTAIN, *, seed=0, **sizes):
    settled = {"chunk_frames": 10, "window_frames": 20, "unclear_frames": 2} | sizes
    rng = np.random.default_rng(seed)
    return draw_queries(token_ids, token_ends, num_frames, tokenizer=TOKENIZER, config=config, rng=rng, **settled)


def test_a_token_is_asked_for_at_the_end_of_the_chunk_in_which_it_ends():
    queries = draw([GO, NO, S], [10, 11, 34], 36)

    assert queries.tokens.tolist() == [START, PROMPT, GO, NO, S]
    assert queries.answers.tolist() == [IGNORE, GO, NO, S, NOTHING]
    assert queries.window_ends.tolist() == [10, 10, 20, 36, 36]
    assert queries.window_starts.tolist() == [0, 0, 0, 6, 6]  # 20 frames and a chunk before


def test_a_delay_is_whole_chunks_and_ends_with_the_speech():
    config = CERTAIN.model_copy(update={"delay_probabilities": (0.0, 0.0, 1.0)})

    queries = draw([GO, NO], [3, 25], 36, config)

    assert queries.window_ends.tolist()[1:] == [30, 36, 36]


@pytest.mark.parametrize(
    ("ends", "window_ends", "answers"),
    [
        ([8, 13], [10, 10, 30], [GO, NOTHING, NOTHING]),  # cut at 10, three frames past it: more than 2
        ([8, 12], [10, 20, 30], [GO, NO, NOTHING]),  # two frames past it: it may have ended before
        ([11, 13], [20, 20, 30], [GO, NO, NOTHING]),  # the token before has not ended at 10 either
        ([10, 28], [10, 20, 30], [GO, NOTHING, NOTHING]),  # asked at the last border inside
        ([13, 19], [10, 20, 30], [NOTHING, NO, NOTHING]),  # the first token; the second begins after the border
    ],
)
def test_a_token_cut_by_a_border_is_answered_by_nothing(ends, window_ends, answers):
    config = CERTAIN.model_copy(update={"nothing_probability": 1.0})

    queries = draw([GO, NO], ends, 30, config)

    assert queries.window_ends.tolist()[1:] == window_ends
    assert queries.answers.tolist()[1:] == answers
    assert queries.tokens.tolist() == [START, PROMPT, GO, NO]  # the history keeps what was cut


def test_without_alignment_all_is_asked_at_the_end():
    queries = draw([GO, NO], None, 17, StreamingConfig(history_noise=0.0))

    assert queries.window_ends.tolist() == [17, 17, 17, 17]
    assert queries.window_starts.tolist() == [0, 0, 0, 0]
    assert queries.answers.tolist() == [IGNORE, GO, NO, NOTHING]


@pytest.mark.parametrize("token_ends", [[], None])
def test_an_utterance_without_tokens_is_asked_for_nothing_once(token_ends):
    queries = draw([], token_ends, 7)

    assert queries.tokens.tolist() == [START, PROMPT]
    assert queries.answers.tolist() == [IGNORE, NOTHING]
    assert queries.window_ends.tolist() == [7, 7]


def test_noise_falls_on_the_history_and_on_no_answer_and_no_prompt():
    config = CERTAIN.model_copy(update={"history_noise": 0.25})
    token_ids = [GO, NO] * 2000

    queries = draw(token_ids, None, 9, config)

    changed = np.mean(queries.tokens[2:].numpy() != token_ids)
    assert changed == pytest.approx(0.25 * 7 / 8, abs=0.03)  # one in eight random tokens is the right one
    assert queries.tokens[:2].tolist() == [START, PROMPT]
    assert queries.answers.tolist()[1:] == [*token_ids, NOTHING]


def test_delays_and_cuts_are_as_frequent_as_asked_for():
    config = StreamingConfig(delay_probabilities=(0.65, 0.25, 0.1), nothing_probability=0.35)
    ends = [10 * u + 5 for u in range(4000)]  # every token crosses one border

    queries = draw([GO] * 4000, ends, 40_000, config)

    late = (queries.window_ends[1:-1].numpy() - np.array(ends)) // 10
    cut = queries.answers[1:-1].numpy() == NOTHING
    assert cut[1:].mean() == pytest.approx(0.35, abs=0.03)
    assert np.bincount(late[~cut]) / (~cut).sum() == pytest.approx(np.array([0.65, 0.25, 0.1]), abs=0.03)


@st.composite
def spoken(draw_from):
    lengths = draw_from(st.lists(st.integers(0, 40), max_size=8))
    num_frames = draw_from(st.integers(1, 200))
    return [int(end) for end in np.cumsum(lengths)], num_frames


@given(
    spoken(),
    st.integers(1, 50),
    st.integers(0, 60),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.integers(0, 2**32),
)
def test_every_query_hears_something_and_what_was_written_before_it_has_ended(
    speech, chunk_frames, window_frames, unclear_frames, nothing_probability, seed
):
    ends, num_frames = speech
    token_ids = [GO + u % 4 for u in range(len(ends))]
    config = StreamingConfig(nothing_probability=nothing_probability, history_noise=0.0)

    queries = draw(
        token_ids,
        ends,
        num_frames,
        config,
        seed=seed,
        chunk_frames=chunk_frames,
        window_frames=window_frames,
        unclear_frames=unclear_frames,
    )

    starts, limits = queries.window_starts.numpy(), queries.window_ends.numpy()
    answers = queries.answers.tolist()[1:]
    assert (starts >= 0).all()
    assert (limits > starts).all()
    assert (limits <= num_frames).all()
    assert (limits - starts <= window_frames + chunk_frames).all()
    assert answers[-1] == NOTHING
    assert limits[-1] == num_frames
    heard = [min(end, num_frames) for end in ends]
    for u, (answer, limit) in enumerate(zip(answers[:-1], limits[1:-1], strict=True)):
        if answer == token_ids[u]:
            assert limit >= heard[u]
        else:
            assert answer == NOTHING
            assert limit % chunk_frames == 0
            assert limit + unclear_frames < heard[u]
            assert all(end <= limit for end in heard[:u])


def test_collated_queries_are_padded_with_places_that_are_not_asked():
    batch = collate_queries([draw([GO, NO, S], [5, 15, 25], 30), draw([T], [5], 9)])

    assert batch.tokens.tolist() == [[START, PROMPT, GO, NO, S], [START, PROMPT, T, 0, 0]]
    assert batch.answers.tolist()[1] == [IGNORE, T, NOTHING, IGNORE, IGNORE]
    assert batch.window_starts.tolist()[1] == [0, 0, 0, 0, 0]
    assert batch.window_ends.tolist()[1] == [9, 9, 9, 1, 1]
