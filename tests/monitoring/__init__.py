"""Monitoring: the numbers of several processes as one."""
