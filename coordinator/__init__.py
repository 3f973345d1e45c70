"""The coordinator: decides which pipeline runs on which worker, and makes it so.

    api/ (REST)          nats_handlers (register, heartbeat)
         \\                      /              \\
          ledger: one way in to Raft          heartbeats: who is alive, heard by every node, kept nowhere
                 |                              /
          machine -> state/ (pure)      controllers/ (leader only: desired vs observed, again and again)
                                               \\
                                            worker_commands: `cmd.{worker}.deploy` ...

Read `state/model.py` and `state/records.py`, then `state/phases.py`, then `controllers/loop.py`. `app.py`
puts the parts together.
"""
