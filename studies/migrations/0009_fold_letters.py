"""Fold the names again that hold a letter with a stroke or a ligature: they are searched without it now."""

from functools import reduce
from operator import or_

from django.db import migrations
from django.db.models import Q

from gateway_project.core.folding import name_fold

LETTERS = "łđðøħŧıæœþ"
BATCH = 500


def fold(apps, schema_editor):
    study = apps.get_model("studies", "Study")
    holds = reduce(or_, (Q(patient_name_folded__contains=letter) for letter in LETTERS))
    last = 0
    while rows := list(study.objects.filter(holds, pk__gt=last).order_by("pk").only("patient_name")[:BATCH]):
        for row in rows:
            row.patient_name_folded = name_fold(row.patient_name)[:324]
        study.objects.bulk_update(rows, ["patient_name_folded"])
        last = rows[-1].pk


class Migration(migrations.Migration):

    dependencies = [
        ("studies", "0008_timezone_offset"),
    ]

    operations = [
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
