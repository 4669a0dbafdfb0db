import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0003_fewer_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='SourceActivity',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('calling_ae_title', models.CharField(max_length=16, unique=True)),
                ('objects_received', models.BigIntegerField(default=0)),
                ('size_bytes', models.BigIntegerField(default=0)),
                ('stored_bytes', models.BigIntegerField(default=0)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'source activity',
                'indexes': [models.Index(fields=['-last_at'], name='studies_source_latest')],
            },
        ),
        migrations.CreateModel(
            name='Arrival',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('minutes', models.PositiveSmallIntegerField()),
                ('start', models.DateTimeField()),
                ('objects_received', models.PositiveIntegerField(default=0)),
                ('size_bytes', models.BigIntegerField(default=0)),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='arrivals', to='studies.sourceactivity')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('minutes', 'start', 'source'), name='studies_arrival_once')],
            },
        ),
    ]
