"""The decoder: one step a firing; the neuron says when, this says what, or "nothing"."""

import torch
from torch import Tensor, nn

from cifasr.nn.attention import MultiHeadAttention
from cifasr.nn.embedding import TiedEmbedding
from cifasr.nn.state import State, merged, scoped


class DecoderBlock(nn.Module):
    """Self-attention over the tokens, window attention over encoder frames (where there is a window), feed-forward."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, d_encoder: int, *, window: bool) -> None:
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(d_model)
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.window_attention_norm = nn.LayerNorm(d_model) if window else None
        self.window_attention = MultiHeadAttention(d_model, num_heads, d_memory=d_encoder) if window else None
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, d_ff), nn.GELU(), nn.Linear(d_ff, d_model))

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        memory: tuple[Tensor, Tensor] | None,
        window_mask: Tensor | None,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: (B, L, D).
            keys: (B, H, K, D / H) of the tokens, see `project_tokens`.
            values: (B, H, K, D / H).
            mask: Which tokens a query sees, broadcastable to (B, H, L, K).
            memory: Keys and values of the encoder frames; None without a window.
            window_mask: (B, 1, L, T), which frames a query sees; None for all.
        """
        x = x + self.self_attention(self.self_attention_norm(x), keys, values, mask)
        if self.window_attention is not None and self.window_attention_norm is not None and memory is not None:
            x = x + self.window_attention(self.window_attention_norm(x), *memory, window_mask)
        output: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return output

    def project_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Make the keys and values of tokens."""
        return self.self_attention.project_memory(self.self_attention_norm(x))


class Decoder(nn.Module):
    """Transformer over ``[previous token ; fired embedding]`` with window attention; output tied to the embedding.

    Args:
        vocab_size: V.
        num_layers: Blocks.
        d_model: Width.
        num_heads: Heads of each block.
        d_ff: Width of the feed-forward.
        d_encoder: Width of the encoder's frames.
        max_tokens: Places that the position table knows; the longest history.
        window: Whether the encoder's frames are seen; without, the fired embedding is all that is heard, as in the
            CIF paper.
        fired_embedding: Whether the fired embedding is read. It enters through a projection that starts at zero
            beside a window.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        d_encoder: int,
        max_tokens: int,
        window: bool,
        fired_embedding: bool,
    ) -> None:
        super().__init__()
        self.embedding = TiedEmbedding(vocab_size, d_model)
        self.positions = nn.Parameter(torch.randn(max_tokens, d_model) * 0.01)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.fired_projection = nn.Linear(d_encoder, d_model, bias=False) if fired_embedding else None
        if self.fired_projection is not None and window:
            nn.init.zeros_(self.fired_projection.weight)
        self.blocks = nn.ModuleList(
            DecoderBlock(d_model, num_heads, d_ff, d_encoder, window=window) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        tokens: Tensor,
        encoder_out: Tensor,
        window_starts: Tensor,
        window_ends: Tensor,
        fired: Tensor | None = None,
    ) -> Tensor:
        """Score the token after each token, each with a window of its own.

        Args:
            tokens: (B, L) int64, the prompt and what was written.
            encoder_out: (B, T, D_encoder).
            window_starts: (B, L) int64, first frame that the query at each place sees.
            window_ends: (B, L) int64, one past the last; greater than the start.
            fired: (B, L, D_encoder) fired embeddings; None for none.

        Returns:
            (B, L, V) logits.
        """
        x = self._embed(tokens, 0, fired)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        window_mask = _window_mask(window_starts, window_ends, encoder_out.shape[1])
        for block, memory in zip(self._typed_blocks(), self.project_memory(encoder_out), strict=True):
            x = block(x, *block.project_tokens(x), causal, memory, window_mask)
        return self.logits(x)

    def project_memory(self, encoder_out: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Make each layer's keys and values of the frames (B, T, D_encoder); None for layers without a window."""
        attentions = [block.window_attention for block in self._typed_blocks()]
        return [None if attention is None else attention.project_memory(encoder_out) for attention in attentions]

    def init_state(self) -> State:
        """Make the state of a stream in which nothing was written yet."""
        return merged({str(i): block.self_attention.init_cache(1) for i, block in enumerate(self._typed_blocks())})

    def step(
        self, tokens: Tensor, state: State, memory: list[tuple[Tensor, Tensor] | None], fired: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Score the next token of hypotheses about one stream: the `logits` (K, V) of where `advance` arrives."""
        hidden, state = self.advance(tokens, state, memory, fired)
        return self.logits(hidden), state

    def advance(
        self, tokens: Tensor, state: State, memory: list[tuple[Tensor, Tensor] | None], fired: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Go on to the next token of hypotheses about one stream.

        Args:
            tokens: (K, n) int64, what was written since ``state``; the first call brings the prompt.
            state: From `init_state` or an earlier step; it stays as it is, so that a step that brought "nothing" is
                taken back by keeping the old state.
            memory: Each layer's keys and values of the frames in the window, (1, H, T, D / H) each.
            fired: (K, n, D_encoder); None for none.

        Returns:
            hidden: (K, D) that the token after the last is read from.
            state: With the n tokens in it.
        """
        num_past = state["0.keys"].shape[2]
        x = self._embed(tokens, num_past, fired)
        causal = torch.ones(x.shape[1], num_past + x.shape[1], dtype=torch.bool, device=x.device).tril(num_past)
        parts = {}
        for i, (block, frames) in enumerate(zip(self._typed_blocks(), memory, strict=True)):
            past = scoped(state, str(i))
            new_keys, new_values = block.project_tokens(x)
            keys = torch.cat([past["keys"], new_keys], dim=2)
            values = torch.cat([past["values"], new_values], dim=2)
            parts[str(i)] = {"keys": keys, "values": values}
            heard = None if frames is None else (_shared(frames[0], len(x)), _shared(frames[1], len(x)))
            x = block(x, keys, values, causal, heard, None)
        return x[:, -1], merged(parts)

    def logits(self, x: Tensor) -> Tensor:
        """Score every token of the vocabulary for each of ``x`` (..., D)."""
        scores: Tensor = self.embedding.scores(self.norm(x))
        return scores

    def attention_weights(self, tokens: Tensor, encoder_out: Tensor, lens: Tensor, heads: list[list[int]]) -> Tensor:
        """Read where chosen heads look when each next token is scored with all frames in view, for alignments.

        Args:
            tokens: (B, L) int64.
            encoder_out: (B, T, D_encoder).
            lens: (B,) int64, valid frames.
            heads: For each layer the heads to read.

        Returns:
            (B, number of heads, L, T).
        """
        x = self._embed(tokens, 0, None)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        ends = lens[:, None].expand(-1, x.shape[1])
        window_mask = _window_mask(torch.zeros_like(ends), ends, encoder_out.shape[1])
        weights = []
        for block, memory, chosen in zip(self._typed_blocks(), self.project_memory(encoder_out), heads, strict=True):
            keys, values = block.project_tokens(x)
            if chosen and memory is not None and block.window_attention and block.window_attention_norm:
                seen = x + block.self_attention(block.self_attention_norm(x), keys, values, causal)
                query = block.window_attention_norm(seen)
                weights.append(block.window_attention.weights(query, memory[0], chosen, window_mask))
            x = block(x, keys, values, causal, memory, window_mask)
        return torch.cat(weights, dim=1)

    def _embed(self, tokens: Tensor, first: int, fired: Tensor | None) -> Tensor:
        x: Tensor = self.embedding(tokens) + self.positions[first : first + tokens.shape[1]]
        if self.fired_projection is not None and fired is not None:
            x = x + self.fired_projection(fired)
        return x

    def _typed_blocks(self) -> list[DecoderBlock]:
        return [block for block in self.blocks if isinstance(block, DecoderBlock)]


def _shared(frames: Tensor, num_hypotheses: int) -> Tensor:
    """Let every hypothesis hear the same frames."""
    return frames.expand(num_hypotheses, -1, -1, -1)


def _window_mask(starts: Tensor, ends: Tensor, num_frames: int) -> Tensor:
    frame = torch.arange(num_frames, device=starts.device)
    return ((frame >= starts[..., None]) & (frame < ends[..., None]))[:, None]  # (B, 1, L, T)
