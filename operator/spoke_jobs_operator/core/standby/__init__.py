"""Standby pods: how many there are, which jobs may use one, and how an attempt gets one."""
