"""What `spoke-jobs notify` keeps in the ledger: what it has counted, notices to be sent, and mutes."""
