//! Values that are refused, key by key.

use super::Host;

#[test]
fn bad_input_is_answered_with_the_key_and_the_way_out() {
    let host = Host::new();
    let cases: &[(&str, &str, &str)] = &[
        // What is set; the key that the message names; the way out.
        ("policy.hagn=3s", "policy.hagn is no known key", "Did you mean policy.hang?"),
        ("hang=3s", "hang is no known key", "Did you mean hang in [policy]?"),
        ("policy.node=x", "policy.node is no known key", "stands at the top of the file"),
        ("polcy.hang=3s", "polcy is no known key", "Did you mean policy?"),
        ("store.etcd=[\"http://a:2379\"]", "store.etcd is given beside store.embedded", "Keep etcd for"),
        ("store.etcd_user=locum", "store.etcd_user has no effect with store.embedded", "Remove it"),
        ("store.etcd=http://a:2379", "store.etcd is the text", "Write it as"),
        ("policy.on_crash=slowest", "policy.on_crash is \"slowest\"", "\"fastest\""),
        ("policy.durability=safe", "policy.durability is \"safe\"", "\"sync-strict\""),
        ("policy.hang=3", "policy.hang has no unit", "\"3ms\" or \"3s\""),
        ("policy.hang=soon", "policy.hang is \"soon\"", "One looks like \"500ms\""),
        ("policy.hang=10ms", "policy.hang is 10ms", "Set it to \"200ms\" or longer"),
        ("policy.detect=50ms", "policy.detect is 50ms", "Set it to \"200ms\" or longer"),
        ("policy.leader_ttl=1ms", "policy.leader_ttl is 1ms", "Set it to \"500ms\" or longer"),
        ("policy.drain=1h", "policy.drain is not shorter than policy.handover", "Shorten drain"),
        ("policy.max_data_loss=lots", "policy.max_data_loss is \"lots\"", "\"16MiB\""),
        ("policy.max_failovers=0", "policy.max_failovers is the number 0", "whole number from 1"),
        ("policy.app_grace=10ms", "policy.app_grace is shorter than app.interval", "Lengthen app_grace"),
        ("postgres.clone_max_rate=1KiB", "postgres.clone_max_rate is 1KiB", "\"32KiB\" or more"),
        ("policy.flap_window=0s", "policy.flap_window is zero", "Set it to"),
        ("objectives.rto=0s", "objectives.rto is zero", "Set it to"),
        ("node=Seoul", "node is \"Seoul\"", "lower-case"),
        ("node=tokyo", "members does not list this node, tokyo", "Add \"tokyo\""),
        ("members=[seoul,seoul]", "members lists a node twice", "every node once"),
        ("members=seoul", "members is the text \"seoul\", not a list", "Write it as"),
        ("cluster=15", "cluster is the number 15", "Write it in quotes"),
        ("state_dir=state", "state_dir is \"state\"", "the whole path"),
        ("api.listen=8008", "api.listen is the number 8008", "Write it in quotes"),
        ("api.listen=localhost:8008", "api.listen is \"localhost:8008\"", "Use IP:PORT"),
        ("api.listen=127.0.0.1:0", "api.listen is \"127.0.0.1:0\"", "Name a port"),
        (
            "api.listen=127.0.0.1:8009",
            "api.peer_listen (127.0.0.1:8009) clashes with api.listen",
            "another port",
        ),
        (
            "postgres.address=127.0.0.1:8008",
            "api.listen (127.0.0.1:8008) clashes with postgres.address",
            "another port",
        ),
        ("endpoint[db].hold=3s", "endpoint[db] is no known key", "Set it in the file, in its [[endpoint]]"),
        (
            "api.listen=0.0.0.0:6432",
            "endpoint[db].listen (127.0.0.1:6432) clashes with api.listen",
            "another port",
        ),
        ("api.listen=0.0.0.0:8008", "api.address is not given", "Give the address that others use"),
        ("postgres.address=127.0.0.1:6432", "endpoint[db].listen", "another port"),
        ("postgres.address=db1", "postgres.address is \"db1\"", "Use HOST:PORT"),
        ("postgres.connect=nonsense", "postgres.connect is no connection string", "Write it as"),
        ("postgres.connect=user=x", "postgres.connect names no host", "host=/var/run/postgresql"),
        ("postgres.connect=host=/tmp user=x password=geheim", "postgres.connect holds a password", "peer"),
        (
            "postgres.connect=host=10.0.0.9 user=x",
            "postgres.connect leads to another host",
            "socket directory",
        ),
        ("postgres.replication=user=x password=geheim", "postgres.replication holds a password", "passfile="),
        ("postgres.replication=user=x host=y", "postgres.replication holds host", "Remove host"),
        (
            "postgres.options=[\"-c\", \"primary_conninfo=x\"]",
            "postgres.options holds primary_conninfo",
            "Remove",
        ),
        ("postgres.no_failover=maybe", "postgres.no_failover is the text \"maybe\"", "Use true or false"),
        ("app.health=healthz", "app.health is \"healthz\"", "Write \"http"),
        ("app.health=/bin/true", "app.address is missing", "Say where the app server"),
        ("app.status=20", "app.status is 20, which is no status of HTTP", "Change it"),
        ("app.interval=1ms", "app.interval is shorter", "Set it to"),
        ("postgres=5", "postgres is a section, not a value", "[postgres]"),
        ("endpoint=5", "endpoint is not a list of sections", "[[endpoint]]"),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"replica\"}]",
            "endpoint[db].target is \"replica\"",
            "\"primary\" or \"standbys\" or \"app\"",
        ),
        (
            "endpoint=[{name=\"db\",target=\"primary\"}]",
            "endpoint[db].listen is missing",
            "Say where clients connect",
        ),
        (
            "endpoint=[{listen=\"127.0.0.1:6432\",target=\"primary\"}]",
            "endpoint[#1].name is missing",
            "Name it",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",hold=\"1ms\"}]",
            "endpoint[db].hold is shorter",
            "Set it to",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",max=3}]",
            "endpoint[db].max is no known key",
            "Remove it. Known in [endpoint]",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",shutdown=\"9s\"}]",
            "endpoint[db].shutdown",
            "Set it to \"8s\" or less",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",connect=\"1ms\"}]",
            "endpoint[db].connect",
            "Set it to \"2s\"",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",fallback=true}]",
            "endpoint[db].fallback",
            "Remove it. Known in [endpoint]",
        ),
        (
            "endpoint=[{name=\"r\",listen=\"127.0.0.1:6432\",target=\"standbys\",balance=\"random\"}]",
            "endpoint[r].balance",
            "\"round-robin\" or \"least-connections\"",
        ),
    ];
    for (set, key, way_out) in cases {
        let (code, told) = host.check_with(&[set]);
        assert_eq!(code, Some(1), "{set}: {told}");
        assert!(told.contains(key), "{set}: expected {key:?} in\n{told}");
        assert!(told.contains(way_out), "{set}: expected {way_out:?} in\n{told}");
        assert!(!told.contains("geheim"), "{set}: the password is shown in\n{told}");
    }
}
