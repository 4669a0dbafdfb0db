"""The catalogue explains every code that there is, and docs/errors.md and the pages say what it says."""

import ast
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.template.loader import render_to_string

from gateway_project.wiring.explain.catalogue import AREAS, CATALOGUE, FAMILIES, catalogue_markdown, explanation
from gateway_project.wiring.problems import problem
from tests.architecture.test_house import ROOT, tracked

CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*|[A-F0-9]{4}")
# Errors whose first argument is their code; tables keyed by codes, and those whose values begin with one.
RAISED_WITH_CODE = {
    "SpoolError", "DatasetError", "EnvelopeError", "VaultStoreError", "VaultError", "ProtocolViolationError",
    "PduTimeoutError", "DicomwebError", "CustodyError", "_ProblemError", "RequestRefusedError",
}  # fmt: skip
KEYED = {"_ADVICE", "_TEXTS", "_HTTP_PROBLEMS", "_STATUS", "HARD_STOPS", "_TRANSIENT"}
VALUED = {"_REFUSALS", "_FAILURES", "_TIMEOUT", "_REFUSED", "PAGES", "DRF_CODES", "ANEW_BY_ITSELF", "ANEW_BY_A_PERSON"}
KEYWORDS = {"code", "error_code", "fault_code"}
NAMED = {"code", "KEY_ROTATED", "UPLOAD_CLOSED"}
REASONS = {"reason", "end_reason"}


def sources() -> list[Path]:
    return [
        path
        for path in tracked("*.py")
        if path.relative_to(ROOT).parts[0] in {"gateway_project", "studies", "network", "uploads", "routing", "hl7"}
        and not {"migrations", "explain"} & set(path.parts)
    ]


def texts(node: ast.AST | None) -> Iterator[str]:
    """The codes in an expression: also of both branches of a conditional one."""
    for each in ast.walk(node) if node is not None else ():
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and CODE.fullmatch(each.value):
            yield each.value


def first_texts(node: ast.AST) -> Iterator[str]:
    """Of every tuple in a table the first code; of a set or a bare text all."""
    if isinstance(node, ast.Constant | ast.Set | ast.Call | ast.BinOp):
        yield from texts(node)
        return
    for each in ast.walk(node):
        if isinstance(each, ast.Tuple):
            yield from [item.value for item in each.elts if isinstance(item, ast.Constant)
                        and isinstance(item.value, str) and CODE.fullmatch(item.value)][:1]  # fmt: skip


def of_call(node: ast.Call) -> Iterator[str]:
    for keyword in node.keywords:
        if keyword.arg in KEYWORDS:
            yield from (text for text in texts(_branches(keyword.value)) if text)
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in RAISED_WITH_CODE and node.args:
        yield from texts(_branches(node.args[0]))


def _branches(node: ast.AST) -> ast.AST | None:
    """A text, or a choice between texts; a call or a name says nothing here."""
    return node if isinstance(node, ast.Constant) else ast.Tuple(elts=[node.body, node.orelse]) if isinstance(
        node, ast.IfExp
    ) else None  # fmt: skip


def of_assignment(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = {getattr(target, "id", getattr(target, "attr", "")) for target in targets}
    if node.value is None:
        return
    if names & KEYED and isinstance(node.value, ast.Dict):
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if isinstance(value, ast.Constant | ast.Tuple):  # code: its words
                yield from texts(key)
    if names & VALUED:
        yield from first_texts(node.value)
    if names & NAMED and isinstance(node.value, ast.Constant):
        yield from texts(node.value)
    if names & REASONS:
        yield from (text for text in texts(node.value) if "-" in text)


def codes_used() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                codes = of_call(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                codes = of_assignment(node)
            else:
                continue
            for code in codes:
                found.setdefault(code, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_every_code_is_explained() -> None:
    used = codes_used()
    assert len(used) > 200, "the search finds what it should"
    for known in ("disk-full", "identity-missing", "unauthorized", "quarantined", "throttled", "worker-died", "tls"):
        assert known in used
    unexplained = {code: place for code, place in used.items() if explanation(code) is None}
    assert unexplained == {}, "add them to gateway_project/wiring/explain/, then: manage.py errorlist --markdown"


def test_every_refusal_of_an_association_is_explained() -> None:
    """The reasons that access decides by, the acceptor's limits and the statuses."""
    from network.dimse import acceptor, access, association, statuses

    reasons = set()
    for module in (access, acceptor, association):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(
                r"[a-z]+(-[a-z]+)+", node.value
            ):  # fmt: skip
                reasons.add(node.value)
    assert len(reasons) > 20
    assert {reason for reason in reasons if explanation(reason) is None} == set()
    numbers = {f"{value:04X}" for name, value in vars(statuses).items() if name.isupper() and isinstance(value, int)}
    assert numbers <= set(CATALOGUE)


def test_nothing_is_explained_that_is_no_code() -> None:
    """A word in the catalogue stands somewhere in the code: what is gone is taken out."""
    code = "\n".join(path.read_text() for path in sources())
    words = [each for each in CATALOGUE if not re.fullmatch(r"[A-F0-9]{4}", each)]
    made = set(FAMILIES.values())
    assert [each for each in words if f'"{each}"' not in code and each not in made] == []


def test_each_code_once_with_whole_sentences() -> None:
    entries = [entry for area in AREAS for entry in area.entries]
    assert len(entries) == len(CATALOGUE)
    for entry in entries:
        assert not entry.title.endswith("."), entry.code
        for text in (entry.cause, entry.step):
            assert text[0].isupper() or text[0] in "`0123456789", entry.code
            assert text.endswith((".", ".)")), entry.code
            assert "|" not in text, entry.code


@pytest.mark.parametrize(
    ("code", "meant"),
    [("rotation-signature-invalid", "rotation-refused"), ("receipt-signature-invalid", "receipt-invalid")],
)
def test_families_are_explained_by_their_first(code: str, meant: str) -> None:
    found = explanation(code)
    assert found is not None
    assert found.code == meant


@pytest.mark.parametrize("code", ["", "<script>", "of-a-foreign-vault"])
def test_foreign_codes_are_not_explained(code: str) -> None:
    assert explanation(code) is None
    html = render_to_string("parts/explain.html", {"code": code, "words": "<b>Words.", "tone": "bad"})
    assert "&lt;b&gt;Words." in html
    assert "<details" not in html


def test_the_part_says_why_and_what_to_do() -> None:
    html = render_to_string("parts/explain.html", {"code": "unauthorized", "words": "It stopped.", "tone": "bad"})
    found = CATALOGUE["unauthorized"]
    assert found.cause.replace("'", "&#x27;") in html
    assert 'href="/help/codes/#unauthorized"' in html
    assert "It waits for somebody" in html


def test_manual_is_made_from_the_catalogue() -> None:
    assert (ROOT / "docs/errors.md").read_text() == catalogue_markdown(), (
        "run: manage.py errorlist --markdown > docs/errors.md"
    )


def test_problems_lead_to_their_explanation() -> None:
    assert b'"type": "/help/codes/#throttled"' in problem(429, code="throttled").content
    assert b'"type": "about:blank"' in problem(400, code="of-nobody").content


@pytest.mark.django_db
def test_page_has_every_code_as_an_anchor(client_as_viewer) -> None:
    html = client_as_viewer.get("/help/codes/").content.decode()
    for code in CATALOGUE:
        assert f'id="{code}"' in html


@pytest.fixture
def client_as_viewer(db: None, client):
    from tests.web.factories import user_make

    user_make(username="first", superuser=True)
    client.force_login(user_make("viewer"))
    return client


def test_command_lists_and_explains() -> None:
    out = StringIO()
    call_command("errorlist", stdout=out)
    assert len(out.getvalue().splitlines()) == len(CATALOGUE)
    out = StringIO()
    call_command("errorlist", "disk-full", stdout=out)
    assert "repairs itself" in out.getvalue()
    with pytest.raises(CommandError, match="no code"):
        call_command("errorlist", "of-nobody")
