"""A round in its own process, seen from the window: start, poll, cancel. Loads no torch."""

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
from ..errors import CervcellError

__all__ = ["TrainingProcess"]

_LAST = ("done", "failed", "cancelled")


class TrainingProcess:
    """One incremental round in a process of its own; its death, however it comes, costs nothing but the round.

    Messages from :meth:`poll` are dicts with a ``kind``: ``started`` (round), ``stage`` (text), ``progress`` (round,
    step, done, loss, seconds_left), and at the end one of ``done`` (round, state, metrics, message), ``failed``
    (message) and ``cancelled``.
    """

    def __init__(
        self,
        case_path: str | Path,
        slide_path: str | Path,
        *,
        seconds: float = 60.0,
        seed: int = 0,
        reviewer: str | None = None,
    ) -> None:
        self._command = [
            sys.executable, "-m", f"{__package__}.worker", str(case_path), str(slide_path),
            "--seconds", str(seconds), "--seed", str(seed),
        ]  # fmt: skip
        if reviewer is not None:
            self._command.append(f"--reviewer={reviewer}")
        self._case_path = Path(case_path)
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8",
        )  # fmt: skip
        threading.Thread(target=self._listen, name="cervcell-trainer", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id; raises RuntimeError before :meth:`start`."""
        if self._process is None:
            raise RuntimeError("the round has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether messages may still come."""
        return self._process is not None and self._process.poll() is None

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
        if self._process is not None and self._process.poll() is None:
            self._cancelled = True
            self._process.kill()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield messages as they come, up to and with the one that ends the round."""
        while True:
            message = self._messages.get()
            yield message
            if message["kind"] in _LAST:
                return

    def _listen(self) -> None:
        """Hand on what the process says until it ends, then say how, if it could not."""
        assert self._process is not None
        last_words: list[str] = []
        ended, number = False, None
        with self._process as process:
            assert process.stdout is not None
            assert process.stderr is not None
            reader = threading.Thread(target=last_words.extend, args=(process.stderr,), daemon=True)
            reader.start()
            for line in process.stdout:
                try:
                    message: dict[str, Any] = json.loads(line)
                except ValueError:
                    continue  # a library's own chatter
                number = message.get("round", number)
                ended = ended or message["kind"] in _LAST
                self._messages.put(message)
            reader.join()
        if ended:
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
        self._messages.put({"kind": state, "round": number, "message": text})
