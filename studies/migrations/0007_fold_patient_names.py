"""Fill what queries search for the studies that are there."""

from django.db import migrations

from gateway_project.core.folding import name_fold

BATCH = 500


def fold(apps, schema_editor):
    study = apps.get_model("studies", "Study")
    last = 0
    while rows := list(study.objects.filter(pk__gt=last).order_by("pk").only("patient_name")[:BATCH]):
        for row in rows:
            row.patient_name_folded = name_fold(row.patient_name)[:324]
        study.objects.bulk_update(rows, ["patient_name_folded"])
        last = rows[-1].pk


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0006_patient_name_folded'),
    ]

    operations = [
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
