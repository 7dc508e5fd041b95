"""Django's own models; `spoke-jobs migrate` makes the ledger's tables, Django's migrations know nothing of them."""

from __future__ import annotations

from django.db import models


class Upload(models.Model):
    """Names that somebody sent."""

    names = models.TextField()


class Contact(models.Model):
    """A name that was imported."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE)
    name = models.TextField()

    class Meta:
        """Once for each upload: an import that is tried again adds nothing twice."""

        constraints = (models.UniqueConstraint(fields=["upload", "name"], name="contact_once"),)
