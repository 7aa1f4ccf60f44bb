"""Plan of a batch: the tasks that remain after a comparison of the inputs with the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rmbg.batch.entry import Entry
from rmbg.batch.manifest import Item, Manifest
from rmbg.batch.matte_cache import MatteCache
from rmbg.batch.names import unique_targets
from rmbg.batch.outputs import Output
from rmbg.batch.recipe import Recipe
from rmbg.errors import printable


@dataclass(frozen=True)
class Task:
    """One input to process.

    Attributes
    ----------
    entry : Entry
    item : Item
        Its state before the run.
    output : str
        Name of the result.
    intact : bool
        True if the result of an earlier run exists with the size in the manifest.
    """

    entry: Entry
    item: Item
    output: str
    intact: bool = False


@dataclass
class Plan:
    """Tasks of a batch and counts of the other inputs.

    Attributes
    ----------
    names : list of str
        Names of all inputs.
    tasks : list of Task
        Inputs to process; an input that may have changed is read, and skipped if its content is the same.
    kept : int
        Number of inputs with a current result.
    settled : int
        Number of inputs without a result that are not retried: no subject, or the attempt may have been charged.
    sends : int
        Expected number of photos sent to a paid service.
    notes : list of str
        Messages for the user before the start.
    """

    names: list[str] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    kept: int = 0
    settled: int = 0
    sends: int = 0
    notes: list[str] = field(default_factory=list)


def make_plan(
    entries: Sequence[Entry], output: Output, recipe: Recipe, manifest: Manifest, mattes: MatteCache, *, retry: bool = False
) -> Plan:
    """Return the plan of a batch; new inputs are added to the manifest.

    Parameters
    ----------
    entries : sequence of Entry
    output : Output
    recipe : Recipe
    manifest : Manifest
    mattes : MatteCache
    retry : bool
        Send photos again whose last attempt failed and may have been charged.
    """
    known = manifest.items()
    plan = Plan([entry.name for entry in entries])
    new = [(entry.name, entry.target) for entry in entries if entry.name not in known]
    targets = unique_targets(new, (item.target for item in known.values()))
    manifest.assign(targets.items())
    _note_collisions(plan, new, targets)
    open_calls = manifest.names_with_open_calls() if recipe.paid else set()
    inference, rendering = recipe.inference, recipe.rendering
    changed = 0
    for entry in entries:
        item = known.get(entry.name) or Item(entry.name, targets[entry.name])
        name = item.target + recipe.form.suffix
        same = item.stamp == entry.stamp and item.inference == inference and not entry.problem
        intact = item.state == "done" and output.size(name) == item.size
        if same and intact and item.rendering == rendering:
            plan.kept += 1
            continue
        # A resumable job may still have a result after a failed attempt; fetching it is free.
        final = item.state == "charged" and not retry and recipe.provider.resumes == "never"
        if same and (item.state == "nothing" or final):
            plan.settled += 1
            continue
        # A provisional result has no fingerprint of its inference.
        changed += item.state == "done" and item.inference != "" and (item.inference, item.rendering) != (inference, rendering)
        plan.tasks.append(Task(entry, item, name, intact))
        if recipe.paid and not entry.problem:
            reusable = same and item.digest and mattes.find(item.digest, inference)
            plan.sends += not reusable and (retry or (entry.name not in open_calls and item.state != "charged"))
    # Failed inputs come last, so that consecutive failures do not end each run before the other inputs are tried.
    plan.tasks.sort(key=lambda task: task.item.state == "failed")
    if changed:
        plan.notes.append(f"The settings have changed. {changed:,} of {len(entries):,} photos are processed again.")
    return plan


def _note_collisions(plan: Plan, new: Sequence[tuple[str, str]], targets: dict[str, str]) -> None:
    renamed = [(name, targets[name]) for name, target in new if targets[name] != target]
    for name, target in renamed[:3]:
        shown = printable(name, 60), printable(target, 60)
        plan.notes.append(f"{shown[0]} has the output name of another photo. Its result is named {shown[1]}.")
    if len(renamed) > 3:
        plan.notes.append(f"{len(renamed) - 3:,} more results were renamed as well. The summary lists them.")
