"""Progress of a run and its remaining time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["local", "remote", "scoring"]


@dataclass
class Job:
    """The pictures that one provider has to process, or the results that have to be scored.

    Attributes
    ----------
    count, done : int
    expected : float
        Expected seconds per picture, used until the first one is done.
    workers : int
        Number of pictures processed at the same time.
    stage : {"local", "remote", "scoring"}
        Local jobs run one after another, remote jobs in parallel to them, scoring when all others are done.
    seconds : float
        Seconds that the pictures done so far took, added up.
    """

    count: int
    expected: float
    workers: int
    stage: Stage
    done: int = 0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float:
        per_picture = self.seconds / self.done if self.done else self.expected
        return max(0, self.count - self.done) * per_picture / self.workers


class ProgressTracker:
    """Combines the progress of several jobs into one fraction and one text. Thread-safe.

    Parameters
    ----------
    progress : callable (fraction, text)
        Called by `report`, in its thread.
    """

    def __init__(self, progress: Callable[[float | None, str], None]) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._jobs: dict[str, Job] = {}

    def add(self, title: str, count: int, expected: float, workers: int, stage: Stage) -> None:
        """Add a job, or replace the one with the same title."""
        with self._lock:
            self._jobs[title] = Job(count, expected, workers, stage)

    def advance(self, title: str, seconds: float) -> None:
        """Count one picture of a job as done, after `seconds`."""
        with self._lock:
            self._jobs[title].done += 1
            self._jobs[title].seconds += seconds

    def abandon(self, title: str) -> None:
        """Drop the remaining pictures of a job."""
        with self._lock:
            self._jobs[title].count = self._jobs[title].done

    def report(self) -> None:
        """Call `progress` with the fraction done, the unfinished jobs and the remaining time."""
        with self._lock:
            jobs = {title: job for title, job in self._jobs.items() if job.done < job.count}
            count = sum(job.count for job in self._jobs.values())
            done = sum(min(job.done, job.count) for job in self._jobs.values())
            seconds = self._seconds_left()
        running = {title: job for title, job in jobs.items() if job.stage != "scoring"} or jobs
        text = ", ".join(f"{title} {job.done} of {job.count}" for title, job in running.items())
        self._progress(done / count if count else 1.0, f"{text}, {format_duration(seconds)} left" if jobs else "Done")

    def _seconds_left(self) -> float:
        def stage(name: Stage) -> list[float]:
            return [job.seconds_left for job in self._jobs.values() if job.stage == name]

        return max(sum(stage("local")), max(stage("remote"), default=0.0)) + sum(stage("scoring"))


def format_duration(seconds: float) -> str:
    """A rounded duration, such as ``about 40 s``, ``about 12 min`` or ``about 3 h``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {round(seconds / 3600)} h"
