"""The operator's own process: which replica leads, and whose call or key comes next."""
