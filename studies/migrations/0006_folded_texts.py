from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0005_silence_switch'),
    ]

    operations = [
        migrations.AddField(
            model_name='study',
            name='folded_ids',
            field=models.CharField(blank=True, default='', editable=False, max_length=600),
        ),
        migrations.AddField(
            model_name='study',
            name='folded_name',
            field=models.CharField(blank=True, default='', editable=False, max_length=1000),
        ),
    ]
