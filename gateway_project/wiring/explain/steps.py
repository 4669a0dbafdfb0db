"""Codes of performed procedure steps."""

from gateway_project.wiring.explain.entry import Area, E

STEPS = Area(
    "steps",
    "Procedure steps",
    "Why what a modality says of its step (MPPS) was refused, recorded in the audit trail; and what is missing.",
    (
        E("objects-missing", "Objects that a device made have not come",
          "The device has ended its procedure step and not sent all that it names, sends it elsewhere, or was refused.",
          "Look on the device whether they were sent, and in quarantine; send them again.", heals=True),
        E("step-forbidden", "This AE may not send procedure steps", "It is unknown, or its row does not let it store.",
          "Enter it as a remote AE that may store."),
        E("step-foreign", "Another AE began this step", "Two devices use one UID, or one has two AE titles.",
          "Let the device send all messages of a step under one AE title."),
        E("step-duplicate", "There is such a step already", "The device repeats what was taken, or uses a UID again.",
          "Nothing, if its answer was lost; else tell its vendor."),
        E("step-unknown", "There is no such step", "The device changes a step whose beginning never came here.",
          "Enter the gateway in the device before examinations begin."),
        E("step-final", "The step has ended", "The device changes a step that it has completed or discontinued.",
          "Nothing, if it repeats itself; else tell its vendor."),
        E("step-missing", "An attribute is missing", "The device leaves out what the standard demands of it.",
          "Tell its vendor; the comment beside the status names the attribute."),
        E("step-empty", "An attribute is empty", "The device sends no value for what the standard demands of it.",
          "Tell its vendor; the comment beside the status names the attribute."),
        E("step-invalid", "An attribute's value is none", "A status, UID, date or time is not what it should be.",
          "Tell its vendor; the comment beside the status says which."),
        E("step-uid", "No SOP Instance UID", "What the device calls the step is no UID.", "Tell its vendor."),
        E("step-unreadable", "The data set cannot be read", "It is cut short, or not in the encoding that was agreed.",
          "Tell its vendor."),
        E("step-too-long", "Too many references", "The step names more objects than MPPS.MAX_INSTANCES.",
          "Raise the option."),
    ),
)  # fmt: skip

AREAS = (STEPS,)
