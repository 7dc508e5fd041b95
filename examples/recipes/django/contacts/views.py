"""Views that dispatch in Django's transaction."""

from __future__ import annotations

import json

from django.db import transaction
from django.http import HttpRequest, HttpResponseBadRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from djangos_transaction import session_in_transaction
from jobs import ImportContacts

from contacts.models import Contact, Upload
from spoke_jobs import JobData, dispatch_job, dispatch_task


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponseBase:
    """Store the names, and dispatch their import in the same transaction."""
    names = json.loads(request.body)
    with transaction.atomic():
        new = Upload.objects.create(names=",".join(names))
        session = session_in_transaction()
        job = dispatch_job(JobData("import_contacts", ImportContacts(upload_id=new.id)), session=session)
        dispatch_task("notify", f"{len(names)} names came in", session=session)
        if "" in names:  # the transaction is rolled back, and nothing was dispatched
            transaction.set_rollback(True)
            return HttpResponseBadRequest("a name is empty")
    return JsonResponse({"job": job.id}, status=202)


def contacts(_request: HttpRequest) -> HttpResponseBase:
    """List the imported names."""
    return JsonResponse(list(Contact.objects.order_by("id").values_list("name", flat=True)), safe=False)
