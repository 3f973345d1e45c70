"""The controllers: on the leader only, they close the difference between what is wanted and what is.

Level-triggered: a pass looks at the state and at the heartbeats, starts what is needed, and forgets. Nothing
depends on having seen a change happen, so a new leader takes over by looking.
"""
