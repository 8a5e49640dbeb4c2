"""The actor without Ray: a plain asyncio class."""

import asyncio
import pickle
import threading
from dataclasses import replace

import numpy as np
from fakes import LABELS
from serving import FakeEngine

from stream_erc.core.work import Classification, ClassifyTurn, Failure
from stream_erc.events import Features, Turn
from stream_erc.exceptions import CheckpointError
from stream_erc.inference.remote.ray_actor import PIECE_BYTES, EngineActor, cut


class Counting(FakeEngine):
    """Counts the turns of each batch, and lets the first one wait until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.began, self.go_on = threading.Event(), threading.Event()

    def classify(self, works):
        self.batches.append(len(works))
        self.began.set()
        assert self.go_on.wait(20)
        if any(work.turn.text == "broken" for work in works):
            raise ValueError("broken")
        return super().classify(works)


def turn(number: int, text: str = "hello", state: bytes | None = None) -> ClassifyTurn:
    features = Features(np.full(100_000, number, np.float32))
    return ClassifyTurn(number, Turn(number, 0, text), features, (), state)


def ask(engine: FakeEngine, *calls: list[ClassifyTurn]) -> list[list[Classification | Failure]]:
    """Ask an actor with each call, as a gateway of its own; the first one is running when others come."""

    async def gather() -> list[bytes]:
        actor = EngineActor(lambda: {"hash": engine}, lambda: "this", 1)  # type: ignore[arg-type,return-value,dict-item]
        asked = [asyncio.create_task(actor.run("hash", *cut(calls[0])))]
        if isinstance(engine, Counting):
            await asyncio.to_thread(engine.began.wait, 20)
        asked += [asyncio.create_task(actor.run("hash", *cut(call))) for call in calls[1:]]
        await asyncio.sleep(0)
        while isinstance(engine, Counting) and len(actor._turns["hash"]) < sum(map(len, calls)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        if isinstance(engine, Counting):
            engine.go_on.set()
        return await asyncio.gather(*asked)

    return [pickle.loads(answer) for answer in asyncio.run(gather())]


def test_turns_of_all_gateways_are_classified_together() -> None:
    engine = Counting()
    answers = ask(engine, [turn(0)], [turn(1), turn(2)], [turn(3)])
    assert engine.batches == [1, 3]
    alone = [ask(FakeEngine(), [turn(number)])[0][0] for number in range(4)]
    got = [result for answer in answers for result in answer]
    assert [result.emotion for result in got] == [result.emotion for result in alone]


def test_a_state_crosses_as_bytes() -> None:
    ((first,),) = ask(FakeEngine(), [turn(0)])
    assert isinstance(first, Classification) and isinstance(first.state, bytes)
    ((second,),) = ask(FakeEngine(), [turn(1, state=first.state)])
    engine = FakeEngine()
    before = engine.classifier.state_from_bytes(first.state)
    (expected,) = engine.classify([replace(turn(1), state=before)])
    assert second.emotion == expected.emotion and set(second.emotion.probabilities) == set(LABELS)


def test_an_engine_that_raises_fails_its_batch_alone() -> None:
    engine = Counting()
    answers = ask(engine, [turn(0)], [turn(1, "broken")])
    assert isinstance(answers[0][0], Classification)
    assert answers[1][0] == Failure("turn could not be classified: broken")


def test_a_state_of_another_network_fails_alone() -> None:
    class Choosy(FakeEngine):
        def __init__(self) -> None:
            super().__init__()
            self.classifier.state_from_bytes = self.refuse  # type: ignore[method-assign]

        def refuse(self, blob: bytes) -> object:
            raise CheckpointError("expected a conversation state")

    ((broken, fine),) = ask(Choosy(), [turn(0, state=b"?"), turn(1)])
    assert broken == Failure("work could not be run: expected a conversation state")
    assert isinstance(fine, Classification)


def test_work_travels_in_pieces_that_no_store_takes() -> None:
    pieces = cut([turn(0)])
    assert len(pieces) > 5 and max(map(len, pieces)) <= PIECE_BYTES
    (back,) = pickle.loads(b"".join(pieces))
    assert np.array_equal(back.features.acoustic, turn(0).features.acoustic)
