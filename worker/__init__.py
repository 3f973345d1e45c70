"""A worker: it runs pipelines where a coordinator tells it to, and says truthfully what it runs.

app         composition: start, stop, HTTP, signals
dispatcher  one table of commands, whatever the carrier: order, bounds, first answer again, fence
commands    what each command does
pipelines   the pipelines that run here; `pipeline` is one of them, `routes` says where its outputs go
budget      how much of its events may fail; `watchdog` ends an event that takes too long
connectors/ the outside world: one client for each connector a program declares
membership  registration and heartbeats; `lease` decides whether outputs may leave
payload     foreign JSON in, an event or a counted refusal out
checkpoints a state as data; `cut` copies it without holding events up, `checkpointer` says when, and gives it
            back, `store/` is where it outlives the worker, `safety` tells what would be lost
"""
