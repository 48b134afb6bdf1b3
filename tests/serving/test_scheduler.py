import asyncio
import threading

import pytest
from cifasr_serving.scheduler import Lane, Scheduler

from cifasr.errors import StateError


@pytest.fixture
def scheduler():
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()


async def order_of(scheduler, turns):
    """The names of turns in the order in which they ran; all are put in while the thread is held."""
    gate, ran = threading.Event(), []
    held = asyncio.create_task(scheduler.run(gate.wait, Lane.LIVE))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(scheduler.run(lambda name=name: ran.append(name), lane)) for name, lane in turns]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(held, *tasks)
    return ran


async def test_live_turns_go_first_and_in_turn(scheduler):
    turns = [("file", Lane.RECORDING), ("a", Lane.LIVE), ("b", Lane.LIVE)]

    assert await order_of(scheduler, turns) == ["a", "b", "file"]


async def test_a_recording_does_not_wait_for_ever(scheduler):
    turns = [("file", Lane.RECORDING), *((str(i), Lane.LIVE) for i in range(20))]

    assert "file" in (await order_of(scheduler, turns))[:9]


@pytest.mark.parametrize("error", [ValueError, SystemExit, StopIteration])
async def test_what_a_turn_raises_reaches_its_caller_and_the_next_turn_runs(scheduler, error):
    def fail():
        raise error("here")

    with pytest.raises((ValueError, RuntimeError)):
        await scheduler.run(fail, Lane.LIVE)

    assert (await scheduler.run(lambda: 7, Lane.LIVE))[0] == 7


async def test_a_turn_whose_caller_left_is_not_run(scheduler):
    gate, ran = threading.Event(), []
    held = asyncio.create_task(scheduler.run(gate.wait, Lane.LIVE))
    left = asyncio.create_task(scheduler.run(lambda: ran.append("left"), Lane.LIVE))
    await asyncio.sleep(0)

    left.cancel()
    await asyncio.wait([left])
    gate.set()
    await held
    await scheduler.run(lambda: ran.append("next"), Lane.LIVE)

    assert ran == ["next"]


async def test_a_stopped_scheduler_cancels_what_waits_and_refuses_the_rest(scheduler):
    begun, gate = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold():
        loop.call_soon_threadsafe(begun.set)
        return gate.wait()

    held = asyncio.create_task(scheduler.run(hold, Lane.LIVE))
    await begun.wait()
    waiting = asyncio.create_task(scheduler.run(lambda: 1, Lane.LIVE))
    await asyncio.sleep(0)

    stopping = loop.run_in_executor(None, scheduler.stop)
    await asyncio.wait([waiting])
    gate.set()
    await stopping

    assert waiting.cancelled()
    assert (await held)[0] is True
    with pytest.raises(StateError):
        await scheduler.run(lambda: 1, Lane.LIVE)
