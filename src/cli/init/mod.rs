//! `locum init`: a new pair from two empty hosts. On the first a cluster is made and started; the second one only
//! remembers that it is new, and its member clones it.

mod cluster;

use std::{path::Path, time::Duration};

use serde_json::json;

use super::{Exit, Failure, args::InitArgs, confirm, nodes, output};
use crate::{
    agent::{self, Memory},
    config::{self, Config, Postgres},
    postgres::{Conninfo, Instance, Psql, open_to_others},
};
use cluster::Design;

/// How long a new server may take until it answers.
const ANSWERS: Duration = Duration::from_secs(30);
/// Between two tries.
const LOOK: Duration = Duration::from_millis(50);

/// Something that stands in the way, and the way out.
pub(super) type Obstacle = (String, String);

/// Looks, says, asks, makes.
pub(super) async fn execute(args: &InitArgs) -> Result<Exit, Failure> {
    let config = config::load_new(&args.source.sources())?.config;
    let Some(postgres) = &config.postgres else {
        return Err(Failure::refused(
            "this host has no [postgres] in its configuration: there is nothing to make",
            &["A member without PostgreSQL is just started: locum run."],
        ));
    };
    parents(&postgres.data_dir)?;
    let instance = nodes::instance(&config, postgres)?;
    let memory = agent::memory(&config.state_dir).map_err(anyhow::Error::from)?;
    if let Some(done) = again(args, &config, &instance, memory.as_ref()).await? {
        return Ok(done);
    }
    let design = cluster::design(args, postgres, &instance);
    let mut obstacles = obstacles(args, postgres, &instance, memory.as_ref());
    if args.primary {
        obstacles.extend(design.obstacles.iter().cloned());
    }
    if !obstacles.is_empty() {
        return refuse(args, &config, &obstacles);
    }
    let steps = if args.primary { design.steps(&instance) } else { standby_steps(&config, &instance) };
    if args.dry_run {
        return dry_run(args, &config, &steps);
    }
    confirm(args, &steps)?;
    if args.primary {
        make_primary(args, &config, postgres, &instance, &design).await
    } else {
        make_standby(args, &config, &instance).await
    }
}

/// A host where this was done before: says so, and finishes what is left to do. None: it is new.
async fn again(
    args: &InitArgs,
    config: &Config,
    instance: &Instance,
    memory: Option<&Memory>,
) -> Result<Option<Exit>, Failure> {
    let Some(memory) = memory else { return Ok(None) };
    if memory.node != config.node {
        return Err(Failure::refused(
            format!(
                "state_dir {} belongs to node {}, not {}",
                config.state_dir.display(),
                memory.node,
                config.node
            ),
            &["Nothing was changed. Give each node a state_dir of its own."],
        ));
    }
    if memory.awaits_clone && memory.promise.is_none() && !args.primary && instance.no_place().is_none() {
        tell(args, config, "standby", &[], "This was done before: the node waits for its first clone.")?;
        return Ok(Some(Exit::Done));
    }
    Ok(None)
}

/// The folder that the data directory will be in.
fn parents(data_dir: &Path) -> Result<(), Failure> {
    let parent = data_dir.parent().unwrap_or(Path::new("/"));
    if parent.is_dir() {
        return Ok(());
    }
    let make =
        format!("Make it and give it to PostgreSQL's user: install -d -o postgres {}", parent.display());
    Err(Failure::refused(
        format!("postgres.data_dir is to be made in {}, which is no directory", parent.display()),
        &["Nothing was changed.", &make],
    ))
}

fn obstacles(
    args: &InitArgs,
    postgres: &Postgres,
    instance: &Instance,
    memory: Option<&Memory>,
) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if let Some(memory) = memory.filter(|memory| memory.promise.is_some() || args.primary) {
        let epoch = memory.promise.map_or_else(String::new, |stamp| format!(" (epoch {})", stamp.epoch));
        found.push((
            format!("this node has been a member before{epoch}: its state_dir remembers that"),
            "A member that lost its data directory is cloned again by `locum run`. For another cluster use another state_dir.".into(),
        ));
    }
    found.extend(instance.no_place());
    if let Some(file) = option(postgres, "config_file") {
        if args.primary {
            found.push((
                format!("postgres.options name the configuration file {file}, which init does not make"),
                "Remove it: the configuration of a new cluster is in its data directory.".into(),
            ));
        } else if !Path::new(&file).exists() {
            found.push((
                format!("postgres.options name the configuration file {file}, which is not there"),
                "Make it as on the first node, or remove it from the options of both.".into(),
            ));
        }
    }
    found.extend(passfile(postgres, instance));
    found
}

/// libpq reads a password file only if it is its user's alone.
fn passfile(postgres: &Postgres, instance: &Instance) -> Option<Obstacle> {
    use std::os::unix::fs::MetadataExt as _;
    let file = postgres.replication.parse::<Conninfo>().ok()?.get("passfile")?.to_owned();
    let path = Path::new(&file);
    let owner = instance.owner();
    let name = owner.name().unwrap_or("postgres");
    match std::fs::metadata(path) {
        Err(error) => Some((
            format!("the passfile {file} of postgres.replication cannot be read: {error}"),
            format!(
                "Make it, the same on all nodes: (umask 077; echo '*:*:*:{}:PASSWORD' > {file}); chown {name} {file}",
                nodes::role(postgres)
            ),
        )),
        Ok(_) if open_to_others(path) => Some((
            format!("the passfile {file} is open to others: libpq passes over it"),
            format!("chmod 600 {file}"),
        )),
        Ok(meta) if meta.uid() != owner.uid => Some((
            format!("the passfile {file} does not belong to {name}, as whom PostgreSQL will run"),
            format!("chown {name} {file}"),
        )),
        Ok(_) => None,
    }
}

/// The value of a `-c name=value` among the options.
fn option(postgres: &Postgres, name: &str) -> Option<String> {
    postgres.options.iter().find_map(|option| {
        let option = option.strip_prefix("-c").unwrap_or(option).trim_start();
        let option = option.strip_prefix("--").unwrap_or(option);
        let (key, value) = option.split_once('=')?;
        key.replace('-', "_").eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

fn refuse(args: &InitArgs, config: &Config, obstacles: &[Obstacle]) -> Result<Exit, Failure> {
    if args.json {
        let list: Vec<_> = obstacles.iter().map(|(what, fix)| json!({ "what": what, "fix": fix })).collect();
        output::data(&json!({ "ok": false, "node": config.node, "obstacles": list }).to_string())?;
        return Ok(Exit::Refused);
    }
    let text =
        obstacles.iter().map(|(what, fix)| format!("{what}\n  {fix}")).collect::<Vec<_>>().join("\nerror: ");
    Err(Failure::refused(text, &["Nothing was changed."]))
}

fn standby_steps(config: &Config, instance: &Instance) -> Vec<String> {
    vec![
        format!("{}: remember that node {} is new and to be cloned", config.state_dir.display(), config.node),
        format!("{}: stays as it is until then", instance.data_dir().display()),
    ]
}

fn dry_run(args: &InitArgs, config: &Config, steps: &[String]) -> Result<Exit, Failure> {
    if args.json {
        output::data(&json!({ "ok": true, "node": config.node, "would": steps }).to_string())?;
        return Ok(Exit::Done);
    }
    for step in steps {
        output::data(&format!("would do  {step}"))?;
    }
    output::data("Nothing stands in the way. Nothing was changed.")?;
    Ok(Exit::Done)
}

fn confirm(args: &InitArgs, steps: &[String]) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    steps.iter().for_each(|step| output::talk(&format!("  {step}")));
    confirm::askable("this makes a node", "what would be done")?;
    confirm::agreed("Do that? [y/N]")
}

async fn make_standby(args: &InitArgs, config: &Config, instance: &Instance) -> Result<Exit, Failure> {
    let postgres = config.postgres.as_ref().map(cluster::own_settings).unwrap_or_default();
    instance.own_state_dir().await.map_err(anyhow::Error::from)?;
    instance.keep_own_settings(&postgres).await.map_err(anyhow::Error::from)?;
    agent::await_first_clone(&config.state_dir, &config.node).map_err(anyhow::Error::from)?;
    instance.own_state_dir().await.map_err(anyhow::Error::from)?;
    tell(
        args,
        config,
        "standby",
        &[],
        "This node is new: it is cloned as soon as the primary's member and its own run.",
    )?;
    Ok(Exit::Done)
}

async fn make_primary(
    args: &InitArgs,
    config: &Config,
    postgres: &Postgres,
    instance: &Instance,
    design: &Design,
) -> Result<Exit, Failure> {
    instance.own_state_dir().await.map_err(anyhow::Error::from)?;
    let made = tokio::select! {
        made = instance.create(&design.cluster, |line| output::talk(&format!("  {line}"))) => made,
        () = interrupted() => {
            let left = instance.discard_creation().await;
            let left = left.map_err(anyhow::Error::from)?;
            let hint = if left { "What was begun was removed again." } else { "Nothing was begun." };
            return Err(Failure::refused("interrupted", &[hint]));
        }
    };
    made.map_err(|error| Failure::refused(error.to_string(), &["What was begun was removed again."]))?;
    output::talk("  PostgreSQL starts");
    // From here on it is a data directory like any other: what is left to do is only a start.
    let by_hand = format!(
        "The data directory {} is whole. Start the member: `locum run`.",
        instance.data_dir().display()
    );
    let postmaster = instance.start().await.map_err(|error| {
        let remove = format!("To begin again: rm -r {}", instance.data_dir().display());
        Failure::refused(format!("the new cluster was made, but does not start: {error}"), &[&remove])
    })?;
    instance.own_state_dir().await.map_err(anyhow::Error::from)?;
    answers(&Psql::of(instance), postgres).await.map_err(|why| {
        Failure::refused(
            format!("the new cluster runs as process {}, but does not answer: {why}", postmaster.pid()),
            &[&by_hand],
        )
    })?;
    let told =
        format!("PostgreSQL runs as process {}, with checksums, port {}.", postmaster.pid(), design.port);
    tell(args, config, "primary", &design.notes, &told)?;
    Ok(Exit::Done)
}

async fn interrupted() {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let terminated = async {
        match terminate {
            Ok(mut signal) => _ = signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn answers(psql: &Psql, postgres: &Postgres) -> Result<(), String> {
    let info = postgres.connect.parse::<Conninfo>().map_err(|error| error.to_string())?.to_string();
    let asked = async {
        loop {
            match psql.ask(&info, "SELECT 1;").await {
                Ok(_) => return,
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    };
    match tokio::time::timeout(ANSWERS, asked).await {
        Ok(()) => Ok(()),
        Err(_) => psql.ask(&info, "SELECT 1;").await.map(|_| ()).map_err(|error| error.to_string()),
    }
}

fn tell(args: &InitArgs, config: &Config, role: &str, notes: &[String], told: &str) -> Result<(), Failure> {
    let file = args.source.config.display().to_string();
    if args.json {
        let body = json!({ "ok": true, "node": config.node, "role": role, "told": told, "notes": notes });
        return Ok(output::data(&body.to_string())?);
    }
    output::data(told)?;
    notes.iter().try_for_each(|note| output::data(note))?;
    output::data(&match role {
        "primary" => format!(
            "Next: on every other host `locum init -c FILE --standby`; then start all members: `locum run -c {file}`."
        ),
        _ => format!(
            "Next: `locum run -c {file}`, or the service locum@NAME; `locum status` shows the clone's progress."
        ),
    })?;
    Ok(())
}
