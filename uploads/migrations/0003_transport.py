import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0002_quarantine_decisions_and_policies'),
        ('uploads', '0002_vault_keys'),
    ]

    operations = [
        migrations.CreateModel(
            name='StowVault',
            fields=[
            ],
            options={
                'verbose_name': 'DICOMweb vault',
                'proxy': True,
                'indexes': [],
                'constraints': [],
            },
            bases=('uploads.vault',),
        ),
        migrations.AddField(
            model_name='uploadpart',
            name='result_code',
            field=models.CharField(blank=True, help_text="STOW: the server's reason, or ours.", max_length=40),
        ),
        migrations.AddField(
            model_name='uploadpart',
            name='result_words',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='vault',
            name='auth_kind',
            field=models.CharField(choices=[('none', 'none'), ('basic', 'user name and password'), ('bearer', 'bearer token'), ('oauth', 'OAuth client credentials')], default='none', max_length=8),
        ),
        migrations.AddField(
            model_name='vault',
            name='auth_user',
            field=models.CharField(blank=True, help_text='User name, or OAuth client id.', max_length=200),
        ),
        migrations.AddField(
            model_name='vault',
            name='batch_bytes',
            field=models.PositiveBigIntegerField(default=256000000, help_text='Most bytes in a request; an object that is larger goes alone.', validators=[django.core.validators.MinValueValidator(1)]),
        ),
        migrations.AddField(
            model_name='vault',
            name='batch_instances',
            field=models.PositiveIntegerField(default=100, help_text='Most objects in a request.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)]),
        ),
        migrations.AddField(
            model_name='vault',
            name='deletion_allowed',
            field=models.BooleanField(default=False, help_text='Let files be deleted here once this server has confirmed them by name. It signs no receipt: nothing proves later that it had them.'),
        ),
        migrations.AddField(
            model_name='vault',
            name='oauth_scope',
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name='vault',
            name='oauth_token_url',
            field=models.URLField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name='vault',
            name='transport',
            field=models.CharField(choices=[('gve1', 'GVE1: sealed for its recipient, with a receipt'), ('stow', 'DICOMweb (STOW-RS): not end-to-end encrypted')], default='gve1', max_length=8),
        ),
        migrations.AlterField(
            model_name='vault',
            name='receipt_jwk',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AlterField(
            model_name='vault',
            name='recipient_jwk',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AlterField(
            model_name='vault',
            name='recipient_key_id',
            field=models.CharField(blank=True, help_text='RFC 7638 thumbprint of the pinned recipient key.', max_length=80),
        ),
        migrations.AlterField(
            model_name='vault',
            name='vault_id',
            field=models.CharField(blank=True, max_length=80),
        ),
        migrations.AddIndex(
            model_name='uploadpart',
            index=models.Index(condition=models.Q(('confirmed_at__isnull', True)), fields=['job', 'instance'], name='uploads_part_unconfirmed'),
        ),
    ]
