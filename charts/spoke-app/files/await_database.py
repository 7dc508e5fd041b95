"""Wait until the database accepts connections, before the migrations run."""

import sys
import time

from sqlalchemy.exc import OperationalError

from spoke_jobs.ledger.engine import create_engine, reason_of
from spoke_jobs.settings import load_settings

wait_seconds = float(sys.argv[1])
deadline = time.monotonic() + wait_seconds
engine = create_engine(load_settings().database)
address = engine.url.render_as_string(hide_password=True)
while True:
    try:
        engine.connect().close()
        break
    except OperationalError as error:
        reason = reason_of(error)
    if time.monotonic() > deadline:
        sys.exit(
            f"the database {address} has accepted no connection for {wait_seconds:g} s ({reason}): check that it runs, "
            "and that the Secret contains its address"
        )
    print(f"waiting for {address}: {reason}", flush=True)
    time.sleep(0.5)
print(f"{address} accepts connections")
