"""Makes the template database, with one ring of every kind in its table for the tests to copy."""

import json
import sys

import django
from django.core.management import call_command

RINGS = {
    "after": ("mark", "after"),
    **{name: (name,) for name in ("killer", "cooperative", "stubborn", "deaf", "with_subprocess", "failing")},
}


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    from django_q.models import OrmQ
    from django_q.tasks import async_task

    payloads = {}
    for name, (task, *arguments) in RINGS.items():
        async_task(f"tests.core.cluster_project.tasks.{task}", *arguments, cluster="control")
        payloads[name] = OrmQ.objects.get().payload
        OrmQ.objects.all().delete()
    json.dump(payloads, sys.stdout)


if __name__ == "__main__":
    main()
