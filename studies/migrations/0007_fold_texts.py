from django.db import migrations

from studies.folding import folded, folded_ids

BATCH = 500


def fold(apps, schema_editor):
    """May be killed and repeated: what is folded already comes out the same."""
    studies = apps.get_model('studies', 'Study').objects.order_by('pk')
    last = 0
    while batch := list(studies.filter(pk__gt=last).only('patient_name', 'patient_id', 'accession_number')[:BATCH]):
        for study in batch:
            study.folded_name = folded(study.patient_name)[:1000]
            study.folded_ids = folded_ids(study.patient_id, study.accession_number)[:600]
        studies.bulk_update(batch, ['folded_name', 'folded_ids'])
        last = batch[-1].pk


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0006_folded_texts'),
    ]

    operations = [
        migrations.RunPython(fold, migrations.RunPython.noop, elidable=True),
    ]
