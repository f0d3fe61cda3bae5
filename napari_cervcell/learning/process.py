"""Rounds in a process of their own, seen from the window: prepare, start, poll, cancel. Loads no torch."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..casefile import Case, RoundState
from ..errors import CervcellError, lacks_memory

__all__ = ["TrainingProcess"]

_LAST = ("done", "failed", "cancelled")


class TrainingProcess:
    """Incremental rounds on a case, one after the other; the death of their process costs nothing but the round.

    The process is there from the first :meth:`prepare` or :meth:`start` until :meth:`close`, so that what it has loaded
    and looked at once serves all rounds.

    Messages from :meth:`poll` are dicts with a ``kind``: ``started`` (round), ``stage`` (text), ``progress`` (round,
    step, done, loss, seconds_left), and at the end one of ``done`` (round, state, metrics, message), ``failed``
    (message) and ``cancelled``; outside of rounds ``prepared``.
    """

    def __init__(self, case_path: str | Path, slide_path: str | Path) -> None:
        self._command = [sys.executable, "-m", f"{__package__}.worker", str(case_path), str(slide_path)]
        self._case_path = Path(case_path)
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._busy = False
        self._cancelled = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Process id; raises RuntimeError where there is no process."""
        if self._process is None:
            raise RuntimeError("the trainer has not been started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether there is a process, at work or waiting."""
        return self._process is not None and self._process.poll() is None

    @property
    def running(self) -> bool:
        """Whether a round is on its way: its last message has not come yet."""
        return self._busy

    def prepare(self) -> None:
        """Look, in the background, at what a quick round would look at now. During a round this does nothing."""
        if not self._busy:
            with suppress(OSError, RuntimeError):  # no process can be started: the next round will say so
                self._order({"do": "prepare"})

    def start(
        self, *, quick: bool = False, seconds: float | None = None, seed: int = 0, reviewer: str | None = None
    ) -> None:
        """Begin a round that trains for about `seconds`, usual ones if None; a `quick` one teaches the head alone,
        where the model knows anything yet.

        The case notes that `reviewer` began it, the login name if None. Where no process can be started, a ``failed``
        message follows. Raises RuntimeError while a round is running.
        """
        if self._busy:
            raise RuntimeError("a round is running")
        try:
            self._order({"do": "round", "quick": quick, "seconds": seconds, "seed": seed, "reviewer": reviewer})
        except (OSError, RuntimeError) as error:
            self._busy = False
            reason = "there is not enough memory" if lacks_memory(error) else str(error)
            text = (
                f"The round on {self._case_path} could not be started: {reason}. Nothing is lost, and the model in use "
                "stays. Close other programs, then try again."
            )
            self._messages.put({"kind": "failed", "round": None, "message": text})

    def poll(self) -> list[dict[str, Any]]:
        """Return the messages that have come since the last call, without waiting."""
        messages = []
        while True:
            try:
                messages.append(self._messages.get_nowait())
            except queue.Empty:
                return messages

    def cancel(self) -> None:
        """End the round now; a ``cancelled`` message follows. The model in use stays."""
        if self._busy and self.alive:
            self._cancelled = True
            self._process.kill()  # type: ignore[union-attr]

    def close(self) -> None:
        """End the process, and with it a round that is running."""
        self.cancel()
        if self.alive:
            self._process.kill()  # type: ignore[union-attr]

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield messages as they come, up to and with the one that ends the round."""
        while True:
            message = self._messages.get()
            yield message
            if message["kind"] in _LAST:
                return

    def _order(self, order: dict[str, Any]) -> None:
        """Give an order to the process, started if there is none. Raises what :meth:`_started` does."""
        with self._lock:
            if not self.alive:
                self._process = self._started()
            if order["do"] == "round":
                self._busy, self._cancelled = True, False
            assert self._process is not None
            assert self._process.stdin is not None
            with suppress(OSError, ValueError):  # it has just died: who listens to it will say so
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()

    def _started(self) -> subprocess.Popen[str]:
        """Start a process, and two threads that listen to it. Raises OSError or RuntimeError where that cannot be."""
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8",
        )  # fmt: skip
        last_words: list[str] = []
        reader = threading.Thread(target=last_words.extend, args=(process.stderr,), daemon=True)
        listener = threading.Thread(
            target=self._listen, args=(process, reader, last_words), name="cervcell-trainer", daemon=True
        )
        try:
            reader.start()
            listener.start()
        except RuntimeError:  # there are too many threads, and nobody would listen to it
            process.kill()
            if reader.ident is not None:
                reader.join()
            _put_away(process)
            raise
        return process

    def _listen(self, process: subprocess.Popen[str], reader: threading.Thread, last_words: list[str]) -> None:
        """Hand on what the process says until it ends, then say how, if it left a round unfinished."""
        number = None
        assert process.stdout is not None
        for line in process.stdout:
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # a library's own chatter
            number = message.get("round", number)
            if message["kind"] in _LAST:
                number = None
                self._busy = False
            self._messages.put(message)
        reader.join()
        _put_away(process)
        with self._lock:
            if not self._busy or process is not self._process:  # or it ended idle, and another one does the round
                return
        state: RoundState
        if self._cancelled:
            state, text = "cancelled", "The round was cancelled."
        else:
            reason = last_words[-1].strip() if last_words else "it left no message"
            if process.returncode < 0:
                reason = "it was killed, perhaps for want of memory"
            state, text = "failed", f"The round on {self._case_path} ended early: {reason}. Nothing is lost; try again."
        if number is not None:
            with suppress(CervcellError), Case.open(self._case_path) as case:
                case.finish_round(number, state, message=text)
        self._busy = False
        self._messages.put({"kind": state, "round": number, "message": text})


def _put_away(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process, and close what leads to it."""
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
