import math

import pytest

from cifasr.metrics.latency import LatencySummary, RealTimeFactor, summarize_latency


def test_real_time_factors_are_pooled():
    total = RealTimeFactor(1.0, 4.0) + RealTimeFactor(2.0, 2.0)

    assert total.rtf == 0.5


def test_there_is_no_real_time_factor_without_audio():
    with pytest.raises(ValueError, match="without audio"):
        _ = RealTimeFactor(1.0, 0.0).rtf


@pytest.mark.parametrize(("compute", "audio"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_times_below_zero_are_refused(compute, audio):
    with pytest.raises(ValueError, match=">= 0 s"):
        RealTimeFactor(compute, audio)


def test_percentiles_are_delays_that_were_measured():
    delays_ms = [float(i) for i in range(100, 0, -1)]

    assert summarize_latency(delays_ms) == LatencySummary(100, 50.0, 90.0, 95.0, 99.0, 100.0)
    assert summarize_latency([-3.0]) == LatencySummary(1, -3.0, -3.0, -3.0, -3.0, -3.0)


@pytest.mark.parametrize("delays_ms", [[], [1.0, math.nan], [math.inf]])
def test_delays_must_be_there_and_finite(delays_ms):
    with pytest.raises(ValueError, match="at least one delay"):
        summarize_latency(delays_ms)
