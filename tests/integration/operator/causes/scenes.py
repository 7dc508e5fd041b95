"""What is told of each job that comes to grief, and what must become of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tests.integration.operator.causes.moments import Moment
from tests.integration.operator.causes.stage import Stage, condition, outcome
from tests.integration.operator.conftest import Object
from tests.waiting import eventually, patient

from spoke_jobs.contract.cause_row import with_id
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import WaitReason

COMPARE_SECONDS = 60
"""How often the operator of the scenes compares all that it knows of."""
PROMPT_SECONDS = 56.0
"""Seconds within which a cause is named, once it can be known: sooner than the next comparison would, for most."""
REPAIR_AFTER_SECONDS = 12.0
"""Seconds after which what keeps a job from starting is mended."""

Act = Callable[[Stage, str], None]


@dataclass(frozen=True)
class Scene:
    """A job that comes to grief."""

    cause: str
    knowable: Moment
    """When its end could first be known."""
    steps: str = "wait"
    """What the stand-in does, attempt by attempt."""
    image: str = ""
    pod: Object = field(default_factory=dict)
    container: Object = field(default_factory=dict)
    labels: Object | None = None
    """The template's own; None for the one that it needs."""
    template: bool = True
    spec: Object = field(default_factory=dict)
    act: Act | None = None
    says: tuple[str, ...] = ()
    """What the last message says besides the advice."""
    waited_for: WaitReason | None = None
    """What the advice is about, where one cause has many reasons."""
    exit_code: int | None = None
    within: float = PROMPT_SECONDS


@dataclass(frozen=True)
class Ailment:
    """Something that keeps a job from starting, and can be mended."""

    cause: str
    visible: Moment
    """When it could first be known."""
    mend: Act
    steps: str = "0"
    image: str = ""
    pod: Object = field(default_factory=dict)
    container: Object = field(default_factory=dict)
    labels: Object | None = None
    template: bool = True
    attempts: int = 1
    """How many it takes at most: one more where its pod's own description had to be mended."""


@dataclass
class Played:
    """A scene under way."""

    name: str
    """Its SpokeJob's."""
    done: Future[None] | None = None


def it_ends_promptly(stage: Stage, played: Played, title: str, scene: Scene) -> None:
    """With its cause, and what to do."""
    name = played.name
    end = stage.final(name)
    took = end.at - scene.knowable(stage, name)
    print(f"FIGURE {title}: {scene.cause} {took:.1f} s after it could be known")
    assert (outcome(end), end.status["cause"]) == ("Failed", scene.cause)
    finished = condition(end, "Finished")
    assert (finished["status"], finished["reason"]) == ("True", scene.cause)
    job_id = end.body["spec"]["requestId"]
    reason = scene.waited_for
    advice = CAUSES[scene.cause].advise(job_id) if reason is None else with_id(reason.remedy, job_id)
    for words in (*scene.says, advice):
        assert words in finished["message"]
    if scene.exit_code is not None:
        assert end.status["attempts"][0]["exitCode"] == scene.exit_code
    assert took <= scene.within
    if played.done:
        with_its_act(played)


def it_is_named_and_heals(stage: Stage, played: Played, title: str, ailment: Ailment) -> None:
    """What keeps it from starting is named, and once that is mended it succeeds."""
    name = played.name
    took = stage.named(name, ailment.cause).at - ailment.visible(stage, name)
    with_its_act(played)
    end = stage.final(name)
    healed = end.at - stage.moments[name]
    print(f"FIGURE {title}: {ailment.cause} named after {took:.1f} s, healed in {healed:.1f} s")
    assert outcome(end) == "Succeeded"
    assert end.status["attempt"] <= ailment.attempts
    assert took <= PROMPT_SECONDS


def with_its_act(scene: Played) -> None:
    """What its thread had to say."""
    assert scene.done
    scene.done.result(timeout=patient(200))


def mend_later(stage: Stage, name: str, ailment: Ailment) -> None:
    """Once it is named, and some time has passed."""
    named = stage.named(name, ailment.cause)
    eventually(lambda: time.time() >= named.at + REPAIR_AFTER_SECONDS, "the time of repair")
    ailment.mend(stage, name)
    stage.moments[name] = time.time()
