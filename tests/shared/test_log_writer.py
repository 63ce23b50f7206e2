"""Lines reach their stream in order, those of one turn together, and never cost the work they tell of."""

import asyncio
import io
import logging
import os
import subprocess
import sys
import threading

import pytest

from shared.log_writer import LineHandler, LineWriter

# Several times what a pipe holds.
_TURNS, _LINES = 20, 100


class Stream(io.StringIO):
    """Counts what it is handed."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_without_an_event_loop_a_line_is_written_at_once() -> None:
    stream = Stream()
    LineWriter(stream).info("one")
    assert stream.getvalue() == "one\n"


async def test_the_lines_of_one_turn_leave_in_one_write() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    for number in range(3):
        writer.info(str(number))
    assert stream.writes == 0
    await asyncio.sleep(0)
    assert (stream.writes, stream.getvalue()) == (1, "0\n1\n2\n")
    writer.error("3")
    await asyncio.sleep(0)
    assert stream.getvalue() == "0\n1\n2\n3\n"


def test_what_was_said_last_in_a_loop_is_written_when_the_loop_ends() -> None:
    stream = Stream()
    writer = LineWriter(stream)

    async def say() -> None:
        writer.info("stopped")

    asyncio.run(say())
    assert stream.getvalue() == "stopped\n"


def test_a_loop_that_was_closed_before_it_could_write_holds_nothing_back() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    loop = asyncio.new_event_loop()

    def say_and_stop() -> None:
        writer.info("within")
        loop.stop()

    loop.call_soon(say_and_stop)
    loop.run_forever()
    loop.close()
    assert not stream.getvalue()
    writer.info("after")
    assert stream.getvalue() == "within\nafter\n"


def test_what_waits_for_a_loop_that_never_goes_on_is_written_at_the_end_of_the_process() -> None:
    program = """
import asyncio, sys
from shared.log_writer import LineWriter

loop = asyncio.new_event_loop()
loop.call_soon(lambda: (LineWriter(sys.stderr).info("last words"), loop.stop()))
loop.run_forever()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "last words\n")


async def test_a_thread_beside_the_loop_loses_no_line() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    writer.info("before")
    thread = threading.Thread(target=writer.info, args=("beside",))
    thread.start()
    thread.join()
    writer.info("behind")
    await asyncio.sleep(0)
    assert stream.getvalue() == "before\nbeside\nbehind\n"


class Full(io.StringIO):
    def write(self, text: str) -> int:  # noqa: ARG002 - as there
        raise OSError(28, "No space left on device")


def test_lines_that_several_write_to_one_pipe_stay_whole() -> None:
    reading, writing = os.pipe()
    expected = {letter * 99 for letter in "abcd"}

    def write(line: str) -> None:
        with os.fdopen(os.dup(writing), "w") as stream:
            asyncio.run(_say(LineWriter(stream), line))

    writers = [threading.Thread(target=write, args=(line,)) for line in expected]
    for each in writers:
        each.start()
    with os.fdopen(reading) as pipe:
        lines = [pipe.readline().rstrip("\n") for _ in range(len(expected) * _TURNS * _LINES)]
    for each in writers:
        each.join()
    os.close(writing)

    assert set(lines) == expected


async def _say(writer: LineWriter, line: str) -> None:
    for _ in range(_TURNS):
        for _ in range(_LINES):
            writer.info(line)
        await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [Full(), io.StringIO(), None])
async def test_a_stream_that_takes_nothing_raises_nowhere(stream: io.StringIO | None) -> None:
    if stream is not None and not isinstance(stream, Full):
        stream.close()
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    writer = LineWriter(stream)
    writer.info("lost")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert errors == []


def test_a_librarys_record_that_cannot_be_put_into_words_ends_nobody() -> None:
    stream = Stream()
    handler = LineHandler(LineWriter(stream))
    for arguments in (("no number",), (2,)):
        handler.emit(logging.makeLogRecord({"msg": "%d things", "args": arguments}))
    assert stream.getvalue() == "2 things\n"
