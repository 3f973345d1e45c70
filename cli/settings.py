"""Every value that can be configured, in one table; flags, environment, TOML, reference come from it.

A setting's key is its place in the TOML file (`coordinator.http_port` is `http_port` under
`[coordinator]`) and gives its environment variable (`VARPULIS_COORDINATOR_HTTP_PORT`). Secrets have no
flag, since a command line is visible to every user of the machine: give them as `env:NAME` or
`file:PATH`, or in the environment.
"""

from typing import Final

from cli.setting import Setting

SETTINGS: Final = (
    # -- one machine's cluster: `up` and `down`
    Setting(
        "up.data_dir",
        "text",
        ".varpulis",
        "directory of the cluster: state, logs",
        "--data-dir",
        "VARPULIS_DATA_DIR",
    ),
    Setting(
        "up.coordinators",
        "integer",
        3,
        "how many coordinators, fixed at the first start: 3 survive the loss of one, 5 of two",
        "--coordinators",
        low=1,
        high=7,
    ),
    Setting("up.workers", "integer", 2, "how many workers", "--workers", low=0, high=64),
    Setting(
        "up.http_port",
        "integer",
        9100,
        "HTTP port of the first coordinator; the others follow, workers start 20 above",
        "--http-port",
        low=1024,
        high=65000,
    ),
    Setting("up.nats_port", "integer", 4222, "port of the nats-server", "--nats-port", low=1024, high=65535),
    Setting(
        "up.nats_server",
        "text",
        "",
        "path of a nats-server; empty: the packaged one, else PATH",
        "--nats-server",
    ),
    Setting(
        "up.require_keys",
        "switch",
        False,
        "ask everybody for an API key, chosen at the first start; the keys are made in DATA_DIR/keys",
        "--require-keys",
    ),
    Setting("up.demo", "switch", True, "run the demo group and its generator", "--demo"),
    Setting(
        "up.ready_timeout",
        "number",
        30.0,
        "seconds to wait until all is ready",
        "--ready-timeout",
        low=1,
        high=600,
    ),
    # -- reaching NATS
    Setting("nats.url", "list", ("nats://127.0.0.1:4222",), "NATS servers, tried in turn", "--nats"),
    Setting("nats.user", "text", "", "NATS user"),
    Setting("nats.password", "text", "", "NATS password", secret=True),
    Setting("nats.token", "text", "", "NATS token", secret=True),
    Setting("nats.creds", "text", "", "path of a NATS credentials file"),
    Setting("nats.nkey_seed", "text", "", "NATS user seed, or the path of a file that holds it", secret=True),
    Setting("nats.tls_ca", "text", "", "PEM file of the authorities to trust; empty: the system's"),
    Setting("nats.tls_cert", "text", "", "PEM file of our certificate"),
    Setting("nats.tls_key", "text", "", "PEM file of our certificate's key"),
    Setting(
        "nats.tls_hostname", "text", "", "name in the server's certificate when it is not the URL's host"
    ),
    Setting("nats.connect_timeout", "number", 2.0, "seconds for one connection attempt", low=0.05, high=60),
    # -- what all members of a cluster share
    Setting(
        "cluster.id",
        "text",
        "varpulis",
        "name of the cluster; a journal of another one is refused",
        "--cluster-id",
    ),
    Setting(
        "cluster.prefix", "text", "varpulis.cluster", "prefix of all NATS subjects of the cluster", "--prefix"
    ),
    Setting(
        "cluster.key_file",
        "text",
        "",
        "file of the cluster key (`varpulis key new FILE --cluster`), the same for all: with it Raft "
        "frames and what passes between coordinators and workers are signed, and secrets in the state sealed",
        "--cluster-key-file",
    ),
    Setting(
        "cluster.sign",
        "switch",
        True,
        "sign with the cluster key, and drop what is not signed; off: only secrets are sealed with it",
        "--sign",
    ),
    Setting(
        "cluster.allow_unsigned",
        "switch",
        False,
        "with a cluster key: take messages of workers and to workers that are not signed (seed peers)",
        "--allow-unsigned",
    ),
    # -- one coordinator
    Setting("coordinator.id", "text", None, "id of this coordinator", "--id"),
    Setting(
        "coordinator.members",
        "list",
        None,
        "ids of all coordinators at the first start, this one included; with --join the present ones",
        "--members",
    ),
    Setting(
        "coordinator.join",
        "switch",
        False,
        "this coordinator is new and waits for `varpulis raft add`; without effect once it is a member",
        "--join",
    ),
    Setting(
        "coordinator.data_dir", "text", None, "its journal and snapshots; default .varpulis/ID", "--data-dir"
    ),
    Setting("coordinator.http_host", "text", "127.0.0.1", "address to listen on", "--http-host"),
    Setting(
        "coordinator.http_port",
        "integer",
        9100,
        "port to listen on; 0: any",
        "--http-port",
        low=0,
        high=65535,
    ),
    Setting(
        "coordinator.insecure",
        "switch",
        False,
        "listen beyond this machine although there are no keys, or no TLS",
        "--insecure",
    ),
    Setting(
        "coordinator.advertise_url",
        "text",
        "",
        "where other coordinators reach this one; empty: at http_host",
        "--advertise-url",
    ),
    Setting("coordinator.tls_cert", "text", "", "PEM file of the certificate for HTTPS", "--tls-cert"),
    Setting("coordinator.tls_key", "text", "", "PEM file of that certificate's key", "--tls-key"),
    Setting(
        "coordinator.tls_client_ca",
        "text",
        "",
        "PEM file of the authorities whose certificates clients must show; empty: none asked for",
        "--tls-client-ca",
    ),
    Setting(
        "coordinator.tls_ca",
        "text",
        "",
        "PEM file of the authorities of the other coordinators; empty: the system's",
        "--tls-ca",
    ),
    Setting(
        "coordinator.admin_key_file",
        "text",
        "",
        "file of an admin's API key to begin with (`varpulis key new FILE`); everybody is asked for a key "
        "then",
        "--admin-key-file",
        "VARPULIS_ADMIN_KEY_FILE",
    ),
    Setting(
        "coordinator.worker_key_file",
        "text",
        "",
        "file of the API key that workers register with",
        "--worker-key-file",
        "VARPULIS_WORKER_KEY_FILE",
    ),
    Setting(
        "coordinator.require_keys",
        "switch",
        False,
        "ask everybody for an API key, those in the state counting",
        "--require-keys",
    ),
    Setting(
        "coordinator.rate_limit",
        "number",
        5000.0,
        "requests a second of one API key; heartbeats do not count; 0: any number",
        low=0,
        high=1e6,
    ),
    Setting(
        "coordinator.rate_burst",
        "number",
        10_000.0,
        "requests that a key that was quiet may make at once",
        low=1,
        high=1e6,
    ),
    Setting(
        "coordinator.worker_ca",
        "text",
        "",
        "PEM file of the authorities of the certificates of workers that speak REST; empty: the system's",
        "--worker-ca",
    ),
    Setting(
        "coordinator.heartbeat_interval",
        "number",
        1.0,
        "seconds between a worker's heartbeats",
        "--heartbeat-interval",
        low=0.05,
        high=60,
    ),
    Setting(
        "coordinator.heartbeat_timeout",
        "number",
        3.0,
        "seconds of silence after which a worker counts as dead",
        "--heartbeat-timeout",
        low=0.1,
        high=600,
    ),
    Setting(
        "coordinator.placement",
        "text",
        "least_loaded",
        "how workers are chosen: least_loaded, round_robin, spread, spread:LABEL, binpack",
        "--placement",
    ),
    Setting(
        "coordinator.rebalance",
        "switch",
        True,
        "even the loads by itself after a worker has joined",
        "--rebalance",
    ),
    Setting(
        "coordinator.rebalance_cooldown",
        "number",
        60.0,
        "seconds between two rounds of that at least",
        "--rebalance-cooldown",
        low=1,
        high=86400,
    ),
    Setting(
        "coordinator.moves_per_worker",
        "integer",
        4,
        "migrations driven at once from or to one worker; the others wait",
        low=1,
        high=64,
    ),
    Setting(
        "coordinator.moves_at_once",
        "integer",
        16,
        "migrations driven at once in all",
        low=1,
        high=256,
    ),
    Setting(
        "coordinator.nats_wait", "number", 10.0, "seconds to wait at start for a nats-server", low=0, high=600
    ),
    Setting(
        "coordinator.raft_heartbeat",
        "number",
        0.09,
        "seconds between the leader's heartbeats",
        low=0.01,
        high=5,
    ),
    Setting(
        "coordinator.election_timeout_min",
        "number",
        0.3,
        "seconds of a silent leader before another may stand",
        low=0.05,
        high=30,
    ),
    Setting(
        "coordinator.election_timeout_max",
        "number",
        0.6,
        "seconds before another surely stands; the wider the span, the rarer a split vote",
        low=0.1,
        high=60,
    ),
    # -- advice on how many workers are wanted
    Setting(
        "scaling.webhook",
        "text",
        "",
        "URL that is told of each change of the scaling advice; empty: none",
        "--scaling-webhook",
    ),
    Setting(
        "scaling.high", "number", 0.8, "part of slots or cores above which more are wanted", low=0.01, high=1
    ),
    Setting("scaling.low", "number", 0.4, "part that fewer workers may reach", low=0.001, high=1),
    Setting("scaling.up_after", "number", 30.0, "seconds that more must be wanted", low=0, high=3600),
    Setting("scaling.down_after", "number", 300.0, "seconds that fewer must be wanted", low=0, high=3600),
    Setting("scaling.min_workers", "integer", 1, "fewest workers to advise", low=0, high=10000),
    Setting("scaling.max_workers", "integer", 10000, "most workers to advise", low=0, high=10000),
    # -- one worker
    Setting("worker.id", "text", None, "id of this worker", "--id"),
    Setting("worker.data_dir", "text", None, "its checkpoints; default .varpulis/ID", "--data-dir"),
    Setting("worker.http_host", "text", "127.0.0.1", "address to listen on", "--http-host"),
    Setting("worker.http_port", "integer", 0, "port to listen on; 0: any", "--http-port", low=0, high=65535),
    Setting(
        "worker.max_pipelines",
        "integer",
        100,
        "pipelines it takes at most",
        "--max-pipelines",
        low=1,
        high=10000,
    ),
    Setting("worker.labels", "list", (), "labels, each as key=value", "--label"),
    Setting(
        "worker.leave_timeout",
        "number",
        10.0,
        "seconds a stopping worker works on until its pipelines have been moved; 0: it does not wait",
        "--leave-timeout",
        low=0,
        high=3600,
    ),
    Setting(
        "worker.checkpoint_dir",
        "text",
        "",
        "directory for large states, shared with other workers so that those can be moved; "
        "empty: one below the data directory",
        "--checkpoint-dir",
    ),
    Setting("worker.api_key", "text", "", "key shown at registration", secret=True),
    Setting(
        "worker.api_key_file",
        "text",
        "",
        "file of the key shown at registration",
        "--api-key-file",
    ),
    Setting(
        "worker.coordinators",
        "list",
        (),
        "coordinator URLs, tried in turn: with them the worker speaks REST and uses no NATS",
        "--coordinators",
    ),
    Setting(
        "worker.address",
        "text",
        "",
        "where the coordinators reach it then, as https://host:port; empty: at http_host",
        "--address",
    ),
    Setting(
        "worker.worker_key_file",
        "text",
        "",
        "file of the key that its commands must show then; empty: a new key at each start",
        "--worker-key-file",
        "VARPULIS_WORKER_OWN_KEY_FILE",
    ),
    Setting(
        "worker.tls_cert", "text", "", "PEM file of its certificate; with it it serves HTTPS", "--tls-cert"
    ),
    Setting("worker.tls_key", "text", "", "PEM file of that certificate's key", "--tls-key"),
    Setting(
        "worker.tls_ca",
        "text",
        "",
        "PEM file of the authorities of the coordinators' certificates; empty: the system's",
        "--tls-ca",
    ),
    Setting(
        "worker.insecure",
        "switch",
        False,
        "let keys travel in the clear beyond this machine",
        "--insecure",
    ),
    # -- asking a cluster
    Setting(
        "client.url",
        "list",
        None,
        "coordinator URLs, tried in turn; default: the cluster running in the data directory, "
        "else http://127.0.0.1:9100",
        "--url",
        "VARPULIS_URL",
    ),
    Setting("client.api_key", "text", "", "our API key", env="VARPULIS_API_KEY", secret=True),
    Setting(
        "client.api_key_file",
        "text",
        "",
        "file of our API key; default: the one of a cluster that `up --require-keys` runs",
        "--api-key-file",
        "VARPULIS_API_KEY_FILE",
    ),
    Setting(
        "client.tls_ca",
        "text",
        "",
        "PEM file of the authorities to trust for https; empty: the system's",
        "--tls-ca",
        "VARPULIS_TLS_CA",
    ),
    Setting("client.tls_cert", "text", "", "PEM file of our certificate", "--tls-cert", "VARPULIS_TLS_CERT"),
    Setting(
        "client.tls_key", "text", "", "PEM file of our certificate's key", "--tls-key", "VARPULIS_TLS_KEY"
    ),
    Setting(
        "client.timeout",
        "number",
        10.0,
        "seconds to go on trying",
        "--timeout",
        "VARPULIS_TIMEOUT",
        low=0.1,
        high=600,
    ),
)

BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
NATS_KEYS: Final = tuple(setting.key for setting in SETTINGS if setting.key.startswith("nats."))
CLIENT_KEYS: Final = (
    "client.url",
    "client.timeout",
    "client.api_key_file",
    "client.tls_ca",
    "client.tls_cert",
    "client.tls_key",
    "up.data_dir",
)
