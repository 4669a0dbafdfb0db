from django.db import migrations, models


class Migration(migrations.Migration):
    """Queries answer in which time zone the times of a study and of a series are."""

    dependencies = [
        ("studies", "0007_fold_patient_names"),
    ]

    operations = [
        migrations.AddField(
            model_name="study",
            name="timezone_offset",
            field=models.CharField(
                blank=True,
                help_text="Of date and time, as the instance says that told them: +0100.",
                max_length=5,
            ),
        ),
        migrations.AddField(
            model_name="series",
            name="timezone_offset",
            field=models.CharField(blank=True, help_text="Of date and time: +0100.", max_length=5),
        ),
    ]
