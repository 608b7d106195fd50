//! `locum salvage open`: the state that a node gave up, started so that people can copy rows from it.
//!
//! Recovery writes into a data directory, so a copy of the saved one is started: the salvage itself stays what it was. The copy
//! lies beside the node's data directory, where PostgreSQL's user can get at it, has a socket and no port, and is told nothing
//! of standbys, archives or upstreams.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    super::{Exit, Failure, args::SalvageOpenArgs, nodes, output},
    look,
};
use crate::{
    config::{self, Config, Postgres},
    postgres::{self, DATA, Instance, Psql},
};

/// Between two looks whether it answers.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
/// How long a stop may take before it is forced.
const STOP: std::time::Duration = std::time::Duration::from_secs(10);
/// How long files may still come to a copy that is being removed.
const REMOVAL: std::time::Duration = std::time::Duration::from_secs(2);
/// The folder of its socket, and the file of its own access rules.
const SOCKETS: &str = "run";
const HBA: &str = "hba.conf";
/// Names the socket; nothing listens at it as a port.
const PORT: &str = "5432";

/// What is not to be as it was: whom it answers, what it writes, whom it waits for, whom it feeds.
const SETTINGS: [&str; 12] = [
    "listen_addresses=",
    "default_transaction_read_only=on",
    "autovacuum=off",
    "archive_mode=off",
    "archive_command=",
    "restore_command=",
    "synchronous_standby_names=",
    "primary_conninfo=",
    "primary_slot_name=",
    "logging_collector=off",
    "ssl=off",
    "recovery_target_timeline=current",
];

/// Copies, starts, says how to get in; or stops and removes.
pub(super) async fn execute(args: &SalvageOpenArgs) -> Result<Exit, Failure> {
    let config = config::load(&args.source.sources())?.config;
    let Some(postgres) = &config.postgres else {
        return Err(Failure::refused("this host has no [postgres]: nothing is salvaged here", &[]));
    };
    let saved = saved(&config, &args.id)?;
    let place = place(postgres, &args.id);
    let owner = nodes::instance(&config, postgres)?;
    let copy = Copy { config: &config, postgres, place: &place, owner: &owner };
    if args.stop {
        return stop(args, &copy).await;
    }
    if !place.exists() {
        make(&copy, &saved)?;
    }
    start(args, &copy).await
}

/// What a copy is made for, and where it is.
struct Copy<'a> {
    config: &'a Config,
    postgres: &'a Postgres,
    place: &'a Path,
    owner: &'a Instance,
}

/// The saved data directory.
fn saved(config: &Config, id: &str) -> Result<PathBuf, Failure> {
    let seen = look(&config.state_dir)?;
    let Some((kept, list)) = seen.iter().find(|(kept, _)| kept.id == id) else {
        let names: Vec<_> = seen.iter().map(|(kept, _)| kept.id.as_str()).collect();
        let there =
            if names.is_empty() { "nothing is salvaged on this host".into() } else { names.join(", ") };
        return Err(Failure::refused(
            format!("there is no salvage {id}; there is: {there}"),
            &["Nothing was changed."],
        ));
    };
    let data = kept.dir.join(DATA);
    if data.is_dir() {
        return Ok(data);
    }
    let notes = list.as_ref().map_or(&[][..], |list| &list.notes);
    let why = notes.iter().find_map(|note| note.strip_prefix("left out: the data directory: "));
    let why = why.unwrap_or("the data directory was not copied when it was given up");
    let read = format!(
        "What was lost is listed in {}, and its README says how to read the WAL.",
        kept.dir.display()
    );
    Err(Failure::refused(format!("{id} cannot be started: {why}"), &["Nothing was changed.", &read]))
}

fn place(postgres: &Postgres, id: &str) -> PathBuf {
    let name = postgres.data_dir.file_name().unwrap_or_default().to_string_lossy();
    postgres.data_dir.with_file_name(format!("{name}.salvage-{id}"))
}

/// Makes the copy under another name first: half of one is never started.
fn make(copy: &Copy<'_>, saved: &Path) -> Result<(), Failure> {
    let part = copy.place.with_extension("part");
    let made = (|| -> io::Result<()> {
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        let private = |path: &Path| {
            fs::DirBuilder::new().mode(0o700).create(path)?;
            copy.owner.owner().give(path)
        };
        private(&part)?;
        private(&part.join(SOCKETS))?;
        output::talk("  the saved data directory is being copied");
        postgres::copy_data(saved, &part.join(DATA))?;
        // Nobody but the owner of its folder gets to the socket.
        let hba = part.join(HBA);
        fs::File::create(&hba)?.write_all(b"local all all trust\n")?;
        copy.owner.owner().give(&hba)?;
        fs::rename(&part, copy.place)
    })();
    made.map_err(|error| {
        let hint = "The salvage is as it was. Is there room beside the data directory, and is this the user that the member runs as?";
        Failure::refused(format!("{} cannot be made: {error}", copy.place.display()), &[hint])
    })
}

fn instance(copy: &Copy<'_>) -> Result<Instance, Failure> {
    let mut options: Vec<String> = SETTINGS.iter().map(|setting| format!("--{setting}")).collect();
    options.push(format!("--port={PORT}"));
    options.push(format!("--unix_socket_directories={}", copy.place.join(SOCKETS).display()));
    options.push(format!("--hba_file={}", copy.place.join(HBA).display()));
    let config = Postgres { data_dir: copy.place.join(DATA), options, ..copy.postgres.clone() };
    let own = Config { state_dir: copy.place.to_owned(), ..copy.config.clone() };
    nodes::instance(&own, &config)
}

async fn start(args: &SalvageOpenArgs, copy: &Copy<'_>) -> Result<Exit, Failure> {
    let instance = instance(copy)?;
    let sockets = copy.place.join(SOCKETS);
    let role = conninfo_user(copy.postgres);
    let info = format!("host={} port={PORT} user={role} dbname=postgres", sockets.display());
    if instance.find().await.map_err(anyhow::Error::from)?.is_none() {
        output::talk("  PostgreSQL starts, and recovers to the end of the saved WAL");
        if let Err(error) = instance.start().await {
            let remove = format!(
                "`locum salvage open {} --stop` removes the copy; the salvage is as it was.",
                args.id
            );
            return Err(Failure::refused(format!("the saved state does not start: {error}"), &[&remove]));
        }
    }
    let deadline = Instant::now() + args.timeout;
    let psql = Psql::of(&instance);
    let databases = loop {
        let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate;";
        match psql.ask(&info, names).await {
            Ok(names) => break names.trim().to_owned(),
            Err(error) if Instant::now() > deadline => {
                let log = format!("It goes on; its log is {}.", instance.log_file().display());
                let what =
                    format!("it does not answer after {}: {error}", humantime::format_duration(args.timeout));
                return Err(Failure::new(Exit::Unknown, what, &[&log]));
            }
            Err(_) => sleep(LOOK).await,
        }
    };
    if args.json {
        let body = json!({ "id": args.id, "host": sockets, "port": PORT, "user": role, "databases": databases.split(' ').collect::<Vec<_>>() });
        output::data(&body.to_string())?;
        return Ok(Exit::Done);
    }
    let who = instance.owner().name().unwrap_or("PostgreSQL's user").to_owned();
    output::data(&format!(
        "The saved state is open, read-only, until it is stopped. Databases: {databases}\n\
         Look (as {who}):  psql -h {} -p {PORT} -U {role} DATABASE\n\
         Copy a table:    pg_dump -h {} -p {PORT} -U {role} -a -t TABLE DATABASE\n\
         Stop:            locum salvage open {} --stop",
        sockets.display(),
        sockets.display(),
        args.id
    ))?;
    Ok(Exit::Done)
}

/// As whom this host's agent connects: a superuser of the old state, too.
fn conninfo_user(postgres: &Postgres) -> String {
    let own = postgres.connect.parse::<postgres::Conninfo>().ok();
    own.and_then(|info| info.get("user").map(str::to_owned)).unwrap_or_else(|| "postgres".into())
}

/// Removes the copy. Which servers ran there is noted in it behind the stop, and a file may come while the folder is emptied.
async fn remove(place: &Path) -> std::io::Result<()> {
    let deadline = Instant::now() + REMOVAL;
    loop {
        match fs::remove_dir_all(place) {
            Err(error)
                if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && Instant::now() < deadline =>
            {
                sleep(LOOK).await;
            }
            removed => return removed,
        }
    }
}

async fn stop(args: &SalvageOpenArgs, copy: &Copy<'_>) -> Result<Exit, Failure> {
    if !copy.place.exists() {
        return Err(Failure::refused(format!("{} is not open", args.id), &["Nothing was changed."]));
    }
    let instance = instance(copy)?;
    if let Some(postmaster) = instance.find().await.map_err(anyhow::Error::from)? {
        instance.stop_fast(&postmaster, STOP).await.map_err(anyhow::Error::from)?;
    }
    remove(copy.place).await.map_err(|error| {
        Failure::refused(
            format!("{} cannot be removed: {error}", copy.place.display()),
            &["The salvage is as it was."],
        )
    })?;
    let told = "It is stopped, and the copy is removed. The salvage stays.";
    output::data(&if args.json {
        json!({ "id": args.id, "stopped": true }).to_string()
    } else {
        told.to_owned()
    })?;
    Ok(Exit::Done)
}
