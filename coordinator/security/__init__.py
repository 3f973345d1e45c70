"""Who may do what, and what may be seen.

    keys      API keys: made, read, checked; the state holds digests (`coordinator.state.keys` changes them)
    roles     one table: which role each route of the API takes
    throttle  token buckets: requests per key, failed attempts per address
    door      the one hook before every request: key, role, rate
    proof     registrations under an id that is held: who listens to its commands?
    origin    browsers: requests of foreign pages are refused
    sealing   secrets of connectors, encrypted under the cluster key (`transport.keyring`)

Signatures of what travels over NATS are the transport's (`transport.signing`). The whole is told in
docs/security.md.
"""
