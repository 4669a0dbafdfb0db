"""All areas together, and the one question: what does this code mean?"""

from django.urls import reverse

from gateway_project.wiring.explain import devices, envelope, gateway, objects, pacs, steps, vaults
from gateway_project.wiring.explain.entry import Area, Explanation

AREAS: tuple[Area, ...] = (
    *objects.AREAS,
    *devices.AREAS,
    *pacs.AREAS,
    *steps.AREAS,
    *vaults.AREAS,
    *envelope.AREAS,
    *gateway.AREAS,
)
CATALOGUE: dict[str, Explanation] = {entry.code: entry for area in AREAS for entry in area.entries}
# Codes that are made of another code behind a word; they mean what the first of the family means.
FAMILIES = {"rotation-": "rotation-refused", "receipt-": "receipt-invalid", "object-": "object-unreadable"}
HEALS = "It repairs itself once the cause is gone."
TABLE = ("| code | what happened | likely cause | next step | by itself |", "|---|---|---|---|---|")
WAITS = "It waits for somebody to do this."


def explanation(code: str) -> Explanation | None:
    """The code's own entry, else that of its family; None for a code that is not ours (a vault's, say)."""
    found = CATALOGUE.get(code)
    if found is None:
        family = next((known for prefix, known in FAMILIES.items() if code.startswith(prefix)), None)
        found = CATALOGUE[family] if family else None
    return found


def help_address(code: str) -> str:
    """Where the code is explained; empty for a code that is not ours."""
    found = explanation(code)
    return f"{reverse('help-codes')}#{found.code}" if found else ""


def catalogue_markdown() -> str:
    """The manual's page of codes."""
    lines = [
        "# Error codes",
        "",
        "Every code that the gateway, the reference vault and the recipient's tool use, with its likely cause and what",
        "to do next. Made from the catalogue in `gateway_project/wiring/explain/` by `manage.py errorlist --markdown`;",
        "the pages show the same under *Why, and what to do*, and at `/help/codes/`.",
    ]
    for area in AREAS:
        lines += ["", f"## {area.title}", "", area.intro, "", *TABLE]
        lines += [
            f"| `{each.code}` | {each.title} | {each.cause} | {each.step} | {'yes' if each.heals else 'no'} |"
            for each in area.entries
        ]
    return "\n".join(lines) + "\n"
