"""Views that dispatch in the transaction of Flask-SQLAlchemy's session."""

from __future__ import annotations

import os

from database import Contact, Upload, db
from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue
from jobs import ImportContacts
from sqlalchemy import select

from spoke_jobs import JobData, configure, dispatch_job, dispatch_task
from spoke_jobs.ledger.engine import configure_sqlite


def create_app() -> Flask:
    """Create the application. It refuses to start with unusable settings."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SPOKE_DATABASE_URL"]
    db.init_app(app)
    configure()
    with app.app_context():
        if db.engine.dialect.name == "sqlite":  # the ledger needs it: docs/architecture.md, "Limits to know"
            configure_sqlite(db.engine)
        db.create_all()  # in production: Alembic, see the recipe
    app.add_url_rule("/uploads", view_func=upload, methods=["POST"])
    app.add_url_rule("/contacts", view_func=contacts)
    return app


def upload() -> ResponseReturnValue:
    """Store the names, and dispatch their import in the same transaction."""
    names: list[str] = request.get_json()
    new = Upload(names=",".join(names))
    db.session.add(new)
    db.session.flush()
    job = dispatch_job(JobData("import_contacts", ImportContacts(upload_id=new.id)), session=db.session)
    dispatch_task("notify", f"{len(names)} names came in", session=db.session)
    if "" in names:  # the transaction is rolled back, and nothing was dispatched
        abort(422, "a name is empty")
    db.session.commit()
    return {"job": job.id}, 202


def contacts() -> ResponseReturnValue:
    """List the imported names."""
    return jsonify(db.session.scalars(select(Contact.name).order_by(Contact.id)).all())
