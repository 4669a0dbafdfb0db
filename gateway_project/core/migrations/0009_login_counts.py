"""Failed logins of each network, for a while."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0008_web_sessions")]

    operations = [
        migrations.CreateModel(
            name="LoginCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("network", models.CharField(max_length=50, unique=True)),
                ("count", models.PositiveIntegerField(default=0)),
                ("blocked", models.BooleanField(default=False)),
                ("until", models.DateTimeField(db_index=True)),
            ],
        ),
    ]
