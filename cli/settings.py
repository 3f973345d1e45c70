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
        "coordinator.insecure", "switch", False, "listen beyond this machine, without keys", "--insecure"
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
        "coordinator.nats_wait", "number", 10.0, "seconds to wait at start for a nats-server", low=0, high=600
    ),
    Setting(
        "coordinator.raft_heartbeat",
        "number",
        0.05,
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
    Setting("worker.api_key", "text", "", "key shown at registration", secret=True),
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
CLIENT_KEYS: Final = ("client.url", "client.timeout", "up.data_dir")
