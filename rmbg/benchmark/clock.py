"""How much of a run is done and how long the rest will take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Job:
    """Pictures that one provider, or the measuring, still has before it.

    Attributes
    ----------
    count, done : int
    expected : float
        Seconds a picture, until the first one is done.
    workers : int
        How many pictures at a time.
    lane : str
        ``local`` jobs wait for each other, ``remote`` ones do not, and ``after`` comes when all others are done.
    """

    count: int
    expected: float
    workers: int
    lane: str
    done: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> float:
        each = self.seconds / self.done if self.done else self.expected
        return max(0, self.count - self.done) * each / self.workers


class Clock:
    """Adds up what the threads report; tells `progress` when asked to."""

    def __init__(self, progress: Callable[[float | None, str], None]) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._jobs: dict[str, Job] = {}

    def plan(self, title: str, count: int, expected: float, workers: int, lane: str) -> None:
        with self._lock:
            self._jobs[title] = Job(count, expected, workers, lane)

    def tick(self, title: str, seconds: float) -> None:
        """One picture is done, after so many seconds."""
        with self._lock:
            self._jobs[title].done += 1
            self._jobs[title].seconds += seconds

    def give_up(self, title: str) -> None:
        """Nothing more will come of this job."""
        with self._lock:
            self._jobs[title].count = self._jobs[title].done

    def tell(self) -> None:
        with self._lock:
            jobs = {title: job for title, job in self._jobs.items() if job.done < job.count}
            count = sum(job.count for job in self._jobs.values())
            done = sum(min(job.done, job.count) for job in self._jobs.values())
            seconds = self._seconds_left()
        now = {title: job for title, job in jobs.items() if job.lane != "after"} or jobs
        text = ", ".join(f"{title} {job.done} of {job.count}" for title, job in now.items())
        self._progress(done / count if count else 1.0, f"{text}, {time_left(seconds)} left" if jobs else "Done")

    def _seconds_left(self) -> float:
        def of(lane: str) -> list[float]:
            return [job.left for job in self._jobs.values() if job.lane == lane]

        return max(sum(of("local")), max(of("remote"), default=0.0)) + sum(of("after"))


def time_left(seconds: float) -> str:
    """``about 40 s``, ``about 12 min``, ``about 3 h``: no more exact than it is known."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {round(seconds / 3600)} h"
