"""Who may open which address: the table that test_role_matrix.py holds every address of the gateway to.

A new page, button or endpoint needs a line here: its route as urls.py writes it, who may, and by which method.
"""

from dataclasses import dataclass

ROLES = ("viewer", "operator", "administrator", "integration", "")
SEEING = ("viewer", "operator", "administrator")
ACTING = ("operator", "administrator")
ADMINISTERING = ("administrator",)
LOGGED_IN = ROLES
OPEN = None  # everybody, without an account: judges for itself


@dataclass(frozen=True)
class Rule:
    """`roles`: who may; OPEN: anybody. `methods`: what it answers. `pk`: which object of the scene its `pk` names.

    `program`: answers problem documents instead of leading to the login page.
    """

    roles: tuple[str, ...] | None
    methods: tuple[str, ...] = ("GET",)
    pk: str = "study"
    program: bool = False


GET, POST, BOTH = ("GET",), ("POST",), ("GET", "POST")

RULES: dict[str, Rule] = {
    "": Rule(SEEING),
    "now/live/": Rule(SEEING),
    "sources/<int:pk>/silence/": Rule(ADMINISTERING, POST, pk="source"),
    "studies/<int:study_pk>/series/<int:series_pk>/": Rule(SEEING),
    "studies/<int:study_pk>/series/<int:series_pk>/preview/": Rule(SEEING),
    "studies/<int:study_pk>/series/<int:series_pk>/thumbnail": Rule(SEEING),
    "instances/<int:pk>/preview": Rule(SEEING, pk="instance"),
    "metrics": Rule(OPEN, program=True),
    "studies/": Rule(SEEING, BOTH),
    "studies/live/": Rule(SEEING),
    "studies/<int:pk>/": Rule(SEEING),
    "studies/<int:pk>/live/": Rule(SEEING),
    "studies/<int:pk>/settle/": Rule(ACTING, POST),
    "studies/<int:pk>/retry/": Rule(ACTING, POST),
    "studies/<int:pk>/custody/": Rule(ACTING),
    "studies/<int:pk>/custody/export/": Rule(ACTING, POST),
    "alerts/": Rule(SEEING),
    "alerts/live/": Rule(SEEING),
    "alerts/acknowledge/": Rule(ACTING, POST),
    "alerts/test/": Rule(ADMINISTERING, POST),
    "audit/": Rule(ADMINISTERING, BOTH),
    "audit/verify/": Rule(ADMINISTERING, POST),
    "audit/export/": Rule(ADMINISTERING, POST),
    "peers/": Rule(SEEING),
    "peers/live/": Rule(SEEING),
    "peers/new/": Rule(ADMINISTERING, BOTH),
    "peers/<int:pk>/": Rule(SEEING, pk="peer"),
    "peers/<int:pk>/live/": Rule(SEEING, pk="peer"),
    "peers/<int:pk>/edit/": Rule(ADMINISTERING, BOTH, pk="peer"),
    "peers/<int:pk>/echo/": Rule(ACTING, POST, pk="peer"),
    "peers/<int:pk>/try/": Rule(ADMINISTERING, POST, pk="peer"),
    "peers/<int:pk>/delete/": Rule(ADMINISTERING, BOTH, pk="peer"),
    "connections/": Rule(SEEING),
    "connections/live/": Rule(SEEING),
    "connections/end/": Rule(ACTING, POST),
    "quarantine/": Rule(SEEING),
    "quarantine/live/": Rule(SEEING),
    "quarantine/<int:pk>/": Rule(SEEING, pk="quarantine"),
    "quarantine/decide/": Rule(ACTING, POST),
    "vaults/": Rule(SEEING),
    "vaults/live/": Rule(SEEING),
    "vaults/<int:pk>/": Rule(SEEING, pk="vault"),
    "vaults/<int:pk>/live/": Rule(SEEING, pk="vault"),
    "lanes/<int:pk>/pause/": Rule(ACTING, POST, pk="lane"),
    "lanes/<int:pk>/resume/": Rule(ACTING, POST, pk="lane"),
    "alerts/<int:pk>/acknowledge/": Rule(ACTING, POST, pk="alert"),
    "login/": Rule(OPEN, BOTH),
    "logout/": Rule(OPEN, POST),
    "setup/<str:token>/": Rule(OPEN, BOTH),
    "account/": Rule(LOGGED_IN),
    "account/password/": Rule(LOGGED_IN, POST),
    "account/sessions/end/": Rule(LOGGED_IN, POST),
    "account/link/<str:uidb64>/<str:token>/": Rule(OPEN, BOTH),
    "help/codes/": Rule(SEEING),
    "health": Rule(OPEN, program=True),
    "version": Rule(OPEN, program=True),
}
# Whatever the admin's own addresses are: administrators, and nobody else.
ADMIN = Rule(ADMINISTERING, BOTH)
ADMIN_OPEN = {"admin/login/", "admin/logout/", "admin/jsi18n/"}  # a redirect to our login; one's own session; words
ADMIN_RULES = {
    "admin/auth/user/<int:pk>/link/": Rule(ADMINISTERING, POST, pk="user"),
    "admin/autocomplete/": Rule(ADMINISTERING),
}


def rule_of(route: str) -> Rule | None:
    """None for an address that nobody has thought about yet."""
    if route.startswith("admin/"):
        return Rule(OPEN, BOTH) if route in ADMIN_OPEN else ADMIN_RULES.get(route, ADMIN)
    return RULES.get(route)
