"""The processes of the service and the queue before them: one answer for every order, its own, whoever is killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from serve_tools import make_toy

from faceprotect_sdk.errors import WorkerLost
from faceprotect_sdk.serve.crew import Busy, Crew, TookTooLong
from faceprotect_sdk.serve.desk import Order
from faceprotect_sdk.serve.limits import Limits

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def no_network() -> None:
    """An event loop has a pair of sockets of its own."""


def with_crew(work: Callable[[Crew], Awaitable[Any]], **limits: Any) -> Any:
    """What ``work`` comes to with a crew of toy processes."""

    async def run() -> Any:
        crew = Crew(make_toy, None, Limits(**{"workers": 2, "queue": 100, **limits}))
        await crew.start()
        try:
            return await asyncio.wait_for(work(crew), PATIENCE)
        finally:
            await crew.close()

    return asyncio.run(run())


def order(text: str) -> Order:
    return Order(0, "protect", (text.encode(),))


def test_every_order_gets_its_own_answer_once_though_processes_are_killed() -> None:
    async def work(crew: Crew) -> None:
        orders = [order(f"photo {number}") for number in range(60)]
        tasks = [asyncio.create_task(crew.run(one)) for one in orders]
        for _ in range(3):
            await asyncio.sleep(0.02)
            for pid in crew.pids[:1]:
                os.kill(pid, signal.SIGKILL)
        replies = await asyncio.gather(*tasks)
        assert [one.facts["input_sha256"] for one in replies] == [hashlib.sha256(one.photos[0]).hexdigest() for one in orders]
        assert len({one.number for one in replies}) == 60
        while len(crew.pids) < 2:
            await asyncio.sleep(0.05)

    with_crew(work)


def test_a_process_that_is_killed_while_it_has_nothing_to_do_is_replaced() -> None:
    async def work(crew: Crew) -> None:
        before = crew.pids
        os.kill(before[0], signal.SIGKILL)
        while len(crew.pids) < 2 or before[0] in crew.pids:
            await asyncio.sleep(0.05)

    with_crew(work)


def test_an_order_is_tried_once_more_and_no_third_time(tmp_path: Path) -> None:
    async def work(crew: Crew) -> None:
        assert (await crew.run(order(f"once {tmp_path / 'died'}"))).code == "not_matched"
        with pytest.raises(WorkerLost, match="signal 9"):
            await crew.run(order("die"))
        assert (await crew.run(order("next"))).code == "not_matched"

    with_crew(work)


def test_what_takes_too_long_is_ended_and_the_next_order_does_not_get_its_answer() -> None:
    async def work(crew: Crew) -> None:
        with pytest.raises(TookTooLong):
            await crew.run(order("sleep 30"))
        assert (await crew.run(order("next"))).facts["input_sha256"] == hashlib.sha256(b"next").hexdigest()

    with_crew(work, workers=1, work_seconds=0.5)


def test_a_full_queue_refuses_and_whoever_leaves_makes_room() -> None:
    async def work(crew: Crew) -> None:
        first, second = (asyncio.create_task(crew.run(order("sleep 0.5"))) for _ in range(2))
        await asyncio.sleep(0.1)
        assert (crew.working, crew.waiting) == (1, 1)
        with pytest.raises(Busy) as busy:
            await crew.run(order("third"))
        assert busy.value.seconds >= 1
        second.cancel()
        await asyncio.sleep(0.01)
        assert crew.waiting == 0
        assert (await crew.run(order("fourth"))).code == "not_matched"
        assert (await first).code == "not_matched"

    with_crew(work, workers=1, queue=1)
