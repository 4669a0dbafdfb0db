"""What this gateway is called at a vault; empty, as for vaults of before: what INSTANCE.ID says."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("uploads", "0008_earlier_receipt_keys")]

    operations = [
        migrations.AddField(
            model_name="vault",
            name="gateway_id",
            field=models.CharField(
                blank=True,
                help_text="What this gateway is called there: INSTANCE.ID when it was set up.",
                max_length=128,
            ),
        ),
    ]
