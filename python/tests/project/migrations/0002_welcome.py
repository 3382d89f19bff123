"""What each site begins with."""

from django.db import migrations


def welcome(apps, schema_editor):
    """Somebody has told everybody something."""
    apps.get_model("project", "Message").objects.using(schema_editor.connection.alias).create(text="welcome")


class Migration(migrations.Migration):
    dependencies = [
        ("project", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(welcome, migrations.RunPython.noop),
    ]
