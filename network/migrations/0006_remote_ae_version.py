"""A version of each remote AE, so that two administrators do not undo each other's changes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("network", "0005_procedure_step")]

    operations = [
        migrations.AddField(
            model_name="remoteae",
            name="version",
            field=models.PositiveIntegerField(
                default=1, editable=False, help_text="Grows with each change by a person."
            ),
        )
    ]
