import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('core', '0006_api_tokens'),
    ]

    operations = [
        migrations.CreateModel(
            name='SharedMark',
            fields=[
                ('name', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('mark', models.TextField(editable=False)),
                ('made_by', models.CharField(help_text='The set of processes that was there first.', max_length=80)),
                ('made_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
    ]
