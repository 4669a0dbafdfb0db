"""What a study's page shows of its procedure steps: a card for each, and their lines on the timeline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway_project.core.options import option
from gateway_project.wiring.timeline_entry import Entry
from gateway_project.wiring.words import count_words, isolated, person_words
from network.models import ProcedureStep, StepState
from network.selectors.procedure_steps import study_uids_in_progress
from studies.models import Study
from studies.selectors import most_open_words, open_until, settles_at, settles_words

LOOKS = {
    StepState.IN_PROGRESS: ("run", "receiving"),
    StepState.COMPLETED: ("ok", "check"),
    StepState.DISCONTINUED: ("warn", "stop"),
}


@dataclass(frozen=True)
class StepCard:
    """One step in words. `other_patient` is set when it is for another than the study's objects are of."""

    calling_ae_title: str
    description: str
    tone: str
    icon: str
    state_words: str
    sentence: str
    started_at: datetime
    ended_at: datetime | None
    accession_number: str
    step_id: str
    station: str
    other_patient: str


def step_cards(study: Study, steps: Iterable[ProcedureStep]) -> list[StepCard]:
    return [_card(study, step) for step in steps]


def _card(study: Study, step: ProcedureStep) -> StepCard:
    tone, icon = LOOKS[StepState(step.state)]
    if step.closed_at is not None and step.here_count < step.instance_count:
        tone = "warn"
    other = bool(step.patient_id and study.patient_id and step.patient_id != study.patient_id)
    station = step.station_name or step.station_ae_title
    return StepCard(
        calling_ae_title=step.calling_ae_title,
        description=step.description,
        tone=tone,
        icon=icon,
        state_words=StepState(step.state).label,
        sentence=objects_words(step),
        started_at=step.started_at,
        ended_at=step.ended_at,
        accession_number=step.accession_number,
        step_id=step.step_id,
        station=station if station != step.calling_ae_title else "",
        other_patient=f"{isolated(person_words(step.patient_name))}, {step.patient_id}" if other else "",
    )


def objects_words(step: ProcedureStep) -> str:
    """How many of its objects are here, as far as it has been looked."""
    if step.closed_at is None:
        return "The device has not said yet that it is done."
    if not step.instance_count:
        return "The device names no object that it made."
    of = f"{step.here_count:,} of {count_words(step.instance_count, 'object')}"
    missing = step.instance_count - step.here_count
    if not missing:
        return (
            "Its one object is here." if step.instance_count == 1 else f"All {step.instance_count:,} objects are here."
        )
    if step.done_at is not None:
        return f"{of} came; the others were waited for in vain."
    if step.overdue_at is not None:
        return f"{of} are here; {missing:,} should have come by now. Look on the device whether they were sent."
    return f"{of} are here; {missing:,} are still to come."


def step_entries(steps: Iterable[ProcedureStep]) -> list[Entry]:
    """Two lines for each: when we heard that it had begun, and that it had ended."""
    entries = []
    for step in steps:
        by = f"Procedure step by {step.calling_ae_title}"
        entries.append(Entry(step.created_at, "person", "past", f"{by} begun", step.description))
        if step.closed_at is not None:
            tone, _icon = LOOKS[StepState(step.state)]
            state = StepState(step.state).label
            entries.append(
                Entry(step.closed_at, "check", "past" if tone == "ok" else tone, f"{by} {state}", objects_words(step))
            )
    return entries


def studies_held(studies: Iterable[Study]) -> set[str]:
    """Study Instance UIDs of those that being quiet does not settle; one query at most."""
    uids = [study.study_instance_uid for study in studies if study.open_since is not None]
    if not uids or not option("SETTLING.WAIT_FOR_PROCEDURE_STEPS"):
        return set()
    found = study_uids_in_progress().filter(study_instance_uid__in=uids)
    return set(found.values_list("study_instance_uid", flat=True))


def settling(study: Study, *, held: bool) -> tuple[datetime | None, str]:
    """When a study settles if nothing more comes, and once what: for a page."""
    if study.open_since is None:
        return None, ""
    if held:
        return open_until(study), f"its procedure step has ended, or it was {most_open_words(study)}"
    return settles_at(study), settles_words(study)


def steps_ahead(steps: Sequence[ProcedureStep]) -> list[Entry]:
    """Those that are in progress."""
    return [
        Entry(None, "person", "next", f"{step.calling_ae_title} ends its procedure step")
        for step in steps
        if step.state == StepState.IN_PROGRESS
    ]
