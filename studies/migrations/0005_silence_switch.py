from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0004_arrivals'),
    ]

    operations = [
        migrations.AddField(
            model_name='sourcepolicy',
            name='silence_watched',
            field=models.BooleanField(default=True, help_text='Tell when it is silent against its own usual week.', verbose_name='watch for silence'),
        ),
        migrations.AlterConstraint(
            model_name='sourcepolicy',
            name='studies_source_policy_any',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('calling_ae_title', '*'), _negated=True), models.Q(('max_open_seconds__isnull', True), ('quiet_seconds__isnull', True)), _connector='OR'), name='studies_source_policy_any', violation_error_message='The row * sets no times; those are the options SETTLING.*.'),
        ),
    ]
