"""Failover drills: a cluster of their own, a measured load, one fault, and figures against objectives.

`bed` starts and ends the cluster, `load` writes and streams while the fault happens, `figures` turns what the
load saw into numbers and compares them with objectives, `scenarios` holds the drills themselves, and
`catalog` what each may cost.
"""
