//! `locum node add`: this host becomes a further standby of a cluster that runs. What can be known before the clone is
//! looked at before it: a clone of a large database that fails at its end costs a night.

use serde_json::json;

use super::{
    super::{
        Exit, Failure,
        args::{Connect, InitArgs, NodeAddArgs},
        client::Member,
        init, nodes, operation, output,
        run_member::open_store,
    },
    DRAINED, RESTORE_PATH,
};
use crate::{
    agent, check,
    config::{self, Config, Postgres},
    model::{Intent, NodeStatus, Snapshot},
    postgres::{Instance, Psql},
    store::{Records, Registration},
};

/// What the store says of the cluster that is joined.
struct Cluster {
    intent: Intent,
    members: Vec<Registration>,
}

/// Looks, says, asks, remembers.
pub(super) async fn execute(args: &NodeAddArgs) -> Result<Exit, Failure> {
    let config = config::load_new(&args.source.sources())?.config;
    let Some(postgres) = &config.postgres else {
        return Err(Failure::refused(
            "this host has no [postgres] in its configuration: there is nothing to clone",
            &["A member without PostgreSQL is just started: locum run."],
        ));
    };
    let cluster = cluster(&config).await?;
    let known = cluster.members.iter().find(|member| member.node == config.node);
    let removed = cluster.intent.removed.contains(&config.node);
    if let Some(other) = known.filter(|known| !removed && known.peer_address != config.api.peer_address) {
        return Err(Failure::refused(
            format!("{} has a node {} already, at {}", config.cluster, config.node, other.peer_address),
            &["Nothing was changed. Give this one a name of its own (`node`)."],
        ));
    }
    let connect = Connect { config: args.source.config.clone(), api: None, token_file: None };
    let mut member = leader(&connect, &cluster).await?;
    let instance = nodes::instance(&config, postgres)?;
    may_be_cloned(&member, &cluster, postgres, &instance).await?;
    let memory = agent::memory(&config.state_dir).map_err(anyhow::Error::from)?;
    let returns = removed && memory.is_some_and(|memory| memory.promise.is_some());
    if removed && !args.dry_run {
        restore(&mut member, &config).await?;
    }
    if returns {
        return welcome(args, &config);
    }
    init::execute(&InitArgs {
        source: args.source.clone(),
        standby: true,
        dry_run: args.dry_run,
        yes: args.yes,
        json: args.json,
        // What follows is for a first host, which makes a cluster of its own.
        primary: false,
        wal_segsize: 0,
        locale: String::new(),
        encoding: String::new(),
        initdb: Vec::new(),
        allow: Vec::new(),
    })
    .await
}

async fn cluster(config: &Config) -> Result<Cluster, Failure> {
    let records = Records::new(open_store(&config.store)?, config.cluster.clone());
    let read =
        async { Ok::<_, crate::ports::StoreError>((records.intent().await?, records.members().await?)) };
    let (intent, members) = read.await.map_err(|error| {
        let hint = "Nothing was changed. Is [store] the same as in the other members' configuration?";
        Failure::refused(format!("the store cannot be read: {error}"), &[hint])
    })?;
    match intent {
        Some((intent, _)) => Ok(Cluster { intent, members }),
        None => Err(Failure::refused(
            format!("the store knows no cluster {}", config.cluster),
            &[
                "Nothing was changed. Are `cluster` and [store] the same as in the other members' configuration?",
                "A new cluster begins with `locum init --primary` on its first host.",
            ],
        )),
    }
}

/// Any member that answers knows the leader.
async fn leader(connect: &Connect, cluster: &Cluster) -> Result<Member, Failure> {
    // This host's own does not run yet; it lends its credentials.
    let own = Member::find(connect)?;
    let mut why = "the store knows no member of it".to_owned();
    for registered in cluster.members.iter().filter(|member| !cluster.intent.removed.contains(&member.node)) {
        let mut member = own.at(&registered.api_address)?;
        match member.try_get::<Snapshot>("/v1/status").await {
            Ok(Ok(_)) => {
                member.toward_leader().await;
                return Ok(member);
            }
            Ok(Err(_)) => why = format!("{} refuses to tell", registered.node),
            Err(silent) => {
                why =
                    format!("{} does not answer at {}: {}", registered.node, registered.api_address, silent.0)
            }
        }
    }
    let hint = "Nothing was changed. Can this host reach the API of the others (api.address)?";
    Err(Failure::refused(format!("no member of the cluster can be asked: {why}"), &[hint]))
}

/// The primary is asked from here, as the clone will be.
async fn may_be_cloned(
    member: &Member,
    cluster: &Cluster,
    postgres: &Postgres,
    instance: &Instance,
) -> Result<(), Failure> {
    let refused = |what: String, hint: &str| Err(Failure::refused(what, &["Nothing was changed.", hint]));
    let now: Snapshot = member.get("/v1/status").await?;
    let primary = cluster.intent.primary.as_ref();
    let of_primary = |status: &&NodeStatus| Some(&status.node) == primary;
    let address = now.nodes.iter().find(of_primary).and_then(|status| status.database.clone());
    let Some((host, port)) = address.as_deref().and_then(|address| address.rsplit_once(':')) else {
        return refused(
            "there is no primary to clone from at the moment".into(),
            "Try again when `locum status` shows one.",
        );
    };
    let psql = Psql::of(instance);
    let host = host.trim_matches(['[', ']']);
    let way = format!("{} host={host} port={port} connect_timeout=5", postgres.replication);
    if let Err(error) = check::may_stream(&psql, &way).await {
        let hint = "Allow the replication role from this host in the primary's pg_hba.conf, and look at its password file.";
        return refused(format!("this host could not clone from {host}:{port}: {error}"), hint);
    }
    let role = nodes::role(postgres);
    let info =
        nodes::conninfo("postgres.replication", &postgres.replication)?.with("host", host).with("port", port);
    let there = nodes::read(&psql, info, &role, "the primary").await?.seen;
    let here = instance.version().await.map_err(anyhow::Error::from)?;
    if there.major() != here {
        let what = format!("the primary is PostgreSQL {}, the programs here are {}", there.major(), here);
        return refused(what, "Install the same major version, or name its folder: postgres.bin_dir.");
    }
    let parent = instance.data_dir().parent().unwrap_or(instance.data_dir());
    let free = rustix::fs::statvfs(parent).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)).ok();
    if let (Some(bytes), Some(free)) = (there.bytes, free)
        && bytes > free
    {
        let what = format!(
            "the databases take {} MiB, and {} MiB are free in {}",
            bytes >> 20,
            free >> 20,
            parent.display()
        );
        return refused(what, "Make room, or put postgres.data_dir on a larger disk.");
    }
    output::talk(&format!(
        "  The primary at {host}:{port} can be cloned from here: PostgreSQL {}, {} MiB.",
        there.major(),
        there.bytes.unwrap_or_default() >> 20
    ));
    Ok(())
}

/// Takes back that the node was removed.
async fn restore(member: &mut Member, config: &Config) -> Result<(), Failure> {
    let (_, answer) = member.post(RESTORE_PATH, &json!({ "node": config.node })).await?;
    match operation::wait(member, operation::id(&answer)?, DRAINED, |_| ()).await? {
        operation::Ended::Done(_) => Ok(()),
        operation::Ended::Not(operation) => Err(operation::refusal(&operation)),
    }
}

/// A node that was here before has its data still: it is brought back as it is, else rewound, else cloned.
fn welcome(args: &NodeAddArgs, config: &Config) -> Result<Exit, Failure> {
    let told = match args.dry_run {
        true => "It would be a part of the cluster again, with the data that it has. Nothing was changed.",
        false => "It is a part of the cluster again, with the data that it has.",
    };
    if args.json {
        output::data(&json!({ "ok": true, "node": config.node, "told": told }).to_string())?;
        return Ok(Exit::Done);
    }
    output::data(told)?;
    if !args.dry_run {
        output::data(&format!(
            "Next: `locum run -c {}`, or the service locum@NAME.",
            args.source.config.display()
        ))?;
    }
    Ok(Exit::Done)
}
