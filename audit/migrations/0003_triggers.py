from django.db import migrations

from audit import triggers


class Migration(migrations.Migration):
    """Has the database refuse changes of the log."""

    dependencies = [("z4j_audit", "0002_checkpoints")]

    operations = [
        migrations.RunPython(
            lambda apps, editor: triggers.create(editor.connection),
            lambda apps, editor: triggers.drop(editor.connection),
        )
    ]
