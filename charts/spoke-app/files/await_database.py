"""Wait until the database takes connections: migrations run when hardly anything else does yet."""

import os
import sys
import time

from sqlalchemy.exc import OperationalError

from spoke_jobs.ledger.engine import create_engine

patience = float(sys.argv[1])
deadline = time.monotonic() + patience
engine = create_engine(os.environ["SPOKE_DATABASE_URL"])
where = engine.url.render_as_string(hide_password=True)
while True:
    try:
        engine.connect().close()
        break
    except OperationalError as error:
        reason = str(error.orig).strip().partition("\n")[0]
    if time.monotonic() > deadline:
        sys.exit(
            f"the database {where} has taken no connection for {patience:g} s ({reason}): see that it runs, "
            "and that the Secret holds its address"
        )
    print(f"waiting for {where}: {reason}", flush=True)
    time.sleep(0.5)
print(f"{where} takes connections")
