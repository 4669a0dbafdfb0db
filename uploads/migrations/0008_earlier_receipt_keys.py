"""Receipt keys that were pinned before: receipts signed under them stay verifiable."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("uploads", "0007_recovery_canary")]

    operations = [
        migrations.AddField(
            model_name="vault",
            name="earlier_receipt_keys",
            field=models.JSONField(
                blank=True,
                default=dict,
                editable=False,
                help_text="Pinned before, by their ids: what they signed still counts.",
            ),
        ),
    ]
