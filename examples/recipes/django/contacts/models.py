"""Django's models. `spoke-jobs migrate` creates the ledger's tables, apart from Django's migrations."""

from __future__ import annotations

from django.db import models


class Upload(models.Model):
    """An uploaded list of names."""

    names = models.TextField()


class Contact(models.Model):
    """An imported name."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE)
    name = models.TextField()

    class Meta:
        """A name is unique within an upload, so that a repeated import adds nothing."""

        constraints = (models.UniqueConstraint(fields=["upload", "name"], name="contact_once"),)
