from types import SimpleNamespace

import pytest
import torch

from cifasr.decoding import beam
from cifasr.decoding.beam import BeamWriter, Firing

NOTHING, PROMPT, A, B, C = 1, 3, 4, 5, 6
VOCAB_SIZE = 7
UNLIKELY = 1e-6


class Script:
    """A decoder that knows what follows each history, and how likely it is; anything else is equally unlikely."""

    def __init__(self, table):
        self.table = table

    def project_memory(self, frames):
        return [None]

    def init_state(self):
        return {"0.keys": torch.zeros(1, 1, 0, 1, dtype=torch.int64)}  # the history is all that is remembered

    def logits(self, hidden):
        return hidden

    def advance(self, tokens, state, memory, fired):
        past = state["0.keys"].expand(len(tokens), -1, -1, -1)
        history = torch.cat([past, tokens[:, None, :, None]], dim=2)
        probabilities = torch.full((len(tokens), VOCAB_SIZE), UNLIKELY)
        for row, told in enumerate(history[:, 0, :, 0].tolist()):
            for token, probability in self.table.get(tuple(told[1:]), {}).items():
                probabilities[row, token] = probability
        return probabilities.log(), {"0.keys": history}


def writer(table, beam_size, *, nothing_threshold=0.5, max_history=100, spelling=None):
    model = SimpleNamespace(
        window_frames=50,
        config=SimpleNamespace(encoder=SimpleNamespace(d_model=2)),
        tokenizer=SimpleNamespace(nothing_id=NOTHING, start_id=2, prompt_ids=[PROMPT]),
        decoder=Script(table),
    )
    return BeamWriter(model, 8, max_history, nothing_threshold, beam_size, spelling=spelling)


def fire(writer, *frames):
    for frame in frames:
        writer.fire(Firing(torch.zeros(2), frame - 1.5, frame))


GARDEN_PATH = {
    (): {A: 0.6, B: 0.4},
    (A,): {A: 0.4, B: 0.3, C: 0.3},
    (B,): {C: 0.95, NOTHING: 0.05},
    (A, A): {NOTHING: 0.9},
    (A, B): {NOTHING: 0.9},
    (A, C): {NOTHING: 0.9},
    (B, C): {NOTHING: 0.9},
}


def test_a_beam_finds_the_likelier_pair_where_greedy_takes_the_likelier_start():
    greedy, wide = writer(GARDEN_PATH, 1), writer(GARDEN_PATH, 2)

    for each in (greedy, wide):
        fire(each, 3, 7)
        each.flush(9)

    assert greedy.token_ids == [A, A]
    assert wide.token_ids == [B, C]
    assert wide.confidences == pytest.approx([0.4, 0.95], abs=1e-4)
    assert (wide.start_frames, wide.fire_frames) == ([1.5, 5.5], [3, 7])
    assert (wide.num_firings, wide.num_calls) == (2, 3)  # at the end only the likeliest is asked, and ends


def test_only_what_all_hypotheses_share_is_written_before_the_end():
    table = {(): {A: 0.9}, (A,): {A: 0.5, B: 0.5}, (A, A): {C: 0.9, B: 0.1}, (A, B): {NOTHING: 0.9}}
    wide = writer(table, 2)

    fire(wide, 2)
    assert (wide.token_ids, wide.has_text) == ([], True)  # UNLIKELY tokens fill the beam
    fire(wide, 4)
    assert (wide.token_ids, wide.last_frame) == ([A], 4)
    fire(wide, 6)
    assert (wide.token_ids, wide.fire_frames) == ([A, A], [2, 4])


def test_nothing_is_told_by_all_hypotheses_together():
    table = {(): {A: 0.5, B: 0.5}, (A,): {NOTHING: 0.9}, (B,): {NOTHING: 0.3, C: 0.7}}

    silent, speaking = writer(table, 2), writer(table, 2, nothing_threshold=0.65)
    for each in (silent, speaking):
        fire(each, 1, 3)

    # Together the two find "nothing" likely at 0.6.
    assert silent.last_frame == 1
    assert speaking.last_frame == 3
    speaking._model.decoder.table |= {(B, C): {NOTHING: 0.9}, (A, A): {NOTHING: 0.9}, (B, A): {NOTHING: 0.9}}
    assert [speaking._beam.tokens[0].tolist(), speaking.token_ids] == [[B, C], []]


def test_the_best_hypothesis_decides_about_old_tokens(monkeypatch):
    monkeypatch.setattr(beam, "_MAX_OPEN", 2)

    table = {(): {A: 0.6, B: 0.4}, (A,): {A: 1.0}, (B,): {A: 1.0}, (A, A): {A: 1.0}, (B, A): {A: 1.0}}
    wide = writer(table, 2)

    fire(wide, 1, 2)
    assert wide.token_ids == []
    fire(wide, 3)
    assert wide.token_ids == [A, A, A]
    assert len(wide._beam.log_probs) == 1


def test_a_long_history_is_cut_alike_for_every_hypothesis():
    seen = []

    def get(history, _):
        seen.append(history)
        return {A: 0.5, B: 0.4} if len(history) < 2 else {C: 0.9}

    wide = writer(SimpleNamespace(get=get), 2, max_history=8)

    fire(wide, *range(1, 14))

    assert max(map(len, seen)) == 7  # and the prompt
    assert {history for history in seen if len(history) == 2} >= {(C, C)}
    assert len(wide.start_frames) == len(wide.token_ids)
    assert wide.last_frame == 13


@pytest.mark.parametrize(
    ("nothing", "expected"),
    [
        ([0.3, 0.9], [A]),  # one token: 0.7 * 0.9
        ([0.45] * 40, []),  # a decoder that would repeat itself for ever: 0.45, 0.55 * 0.45, ...
        ([0.1, 0.4, 0.1, 0.9], [A, A, A]),  # 0.1, 0.36, 0.05, 0.44
        ([0.1, 0.45, 0.4, 0.45, 0.4], [A]),  # 0.1, 0.41, 0.2, ...
    ],
)
@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_end_brings_the_likeliest_number_of_tokens_that_no_firing_told(nothing, expected, beam_size):
    table = {(A,) * place: {NOTHING: each, A: 1 - each} for place, each in enumerate(nothing)}
    each = writer(table, beam_size)

    each.flush(9)

    assert each.token_ids == expected
    assert (each.start_frames, each.fire_frames) == ([0.0] * len(expected), [9] * len(expected))


def test_at_the_end_a_hypothesis_pays_for_what_it_has_not_said():
    table = {(): {A: 0.6, B: 0.4}, (A,): {NOTHING: 0.3, B: 0.3, C: 0.4}, (A, C): {NOTHING: 0.9}, (B,): {NOTHING: 0.95}}
    wide = writer(table, 2)

    fire(wide, 1)
    wide.flush(9)

    # All of A C is 0.6 * 0.4 * 0.9, all of B is 0.4 * 0.95; A alone is 0.6, and is not all.
    assert wide.token_ids == [B]
    assert wide.fire_frames == [1]


class FavoursC:
    """Wants C after B, and a text that does not end in B."""

    def score(self, unfinished, tokens):
        return torch.where((unfinished[:, :1] == B) & (tokens == C), 3.0, 0.0).double()

    def follow(self, unfinished, tokens):
        return tokens[:, None].to(torch.uint8).expand(-1, unfinished.shape[1])

    def end(self, unfinished):
        return torch.where(unfinished[:, 0] == B, -3.0, 0.0).double()


@pytest.mark.parametrize(("spelling", "expected"), [(None, [A, A]), (FavoursC(), [B, C])])
def test_spelling_has_a_say_in_what_follows(spelling, expected):
    table = {(): {A: 0.6, B: 0.4}, (A,): {A: 0.9}, (B,): {A: 0.7, C: 0.3}}
    wide = writer(table | {end: {NOTHING: 0.9} for end in [(A, A), (B, A), (B, C)]}, 2, spelling=spelling)

    fire(wide, 1, 2)
    wide.flush(3)

    assert wide.token_ids == expected


@pytest.mark.parametrize(("spelling", "expected"), [(None, [B]), (FavoursC(), [A])])
def test_spelling_has_a_say_in_how_a_text_ends(spelling, expected):
    wide = writer({(): {A: 0.4, B: 0.6}, (A,): {NOTHING: 0.9}, (B,): {NOTHING: 0.9}}, 2, spelling=spelling)

    fire(wide, 1)
    wide.flush(3)

    assert wide.token_ids == expected
