//! Reads one node by SQL. Only SELECTs; what a role may not see stays unknown.

use std::time::Instant;

use super::{Certificate, HbaRule, Role, Seen, expiry};
use crate::{
    model::Hindrance,
    postgres::{HINDRANCES, Psql, PsqlError, worth_telling},
};

/// More databases than this are not entered to look for extensions.
const DATABASES: usize = 100;

/// The functions that `pg_rewind` calls on its source (PostgreSQL manual, pg_rewind, "Notes").
pub(crate) const REWIND: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Why a node could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Psql(#[from] PsqlError),
    /// Its version is not known to the code.
    #[error("PostgreSQL {0} is not supported; supported are the versions 14 to 18")]
    Version(u32),
    /// It answers, but not as PostgreSQL does.
    #[error("its answer is not understood: {0}")]
    Answer(String),
}

/// Reads the node that `conninfo` leads to.
///
/// # Errors
/// [`Unread`]
pub async fn read(psql: &Psql, conninfo: &str, replication: &str) -> Result<Seen, Unread> {
    let version = psql.ask(conninfo, "SELECT current_setting('server_version_num');").await?;
    let version: u32 = version.trim().parse().map_err(|_| Unread::Answer(version))?;
    if !(140_000..190_000).contains(&version) {
        return Err(Unread::Version(version / 10_000));
    }
    let answer = psql.ask(conninfo, &node(version, replication)).await?;
    let mut seen: Seen = serde_json::from_str(&answer).map_err(|error| Unread::Answer(error.to_string()))?;
    seen.clock = clock(psql, conninfo).await;
    seen.hba = hba(psql, conninfo).await;
    seen.hindrances = hindrances(psql, conninfo).await;
    seen.certificate = certificate(psql, conninfo, &seen).await;
    let names: Vec<String> = seen.databases.iter().map(|db| db.name.clone()).take(DATABASES).collect();
    for name in names {
        enter(psql, conninfo, &name, &mut seen).await;
    }
    Ok(seen)
}

/// Whether a role may stream from a node: tried, not guessed. `replication` is the whole connection string.
///
/// # Errors
/// What libpq or the server said.
pub async fn may_stream(psql: &Psql, replication: &str) -> Result<(), PsqlError> {
    psql.ask(&format!("{replication} replication=true"), "IDENTIFY_SYSTEM;").await.map(|_| ())
}

/// Everything that one statement can tell.
fn node(version: u32, replication: &str) -> String {
    let actual = if version >= 150_000 { "pg_database_collation_actual_version(d.oid)" } else { "NULL" };
    let checkpoint = if version >= 150_000 { "('pg_checkpoint')," } else { "" };
    let role = literal(replication);
    let lacks = REWIND.map(|function| format!("('{function}')")).join(", ");
    format!(
        "SET search_path = pg_catalog;
SELECT json_build_object(
 'version', {version}, 'release', current_setting('server_version'), 'built', version(),
 'system', (SELECT system_identifier::text FROM pg_control_system()),
 'block', current_setting('block_size')::int,
 'in_recovery', pg_is_in_recovery(),
 'receiving', coalesce((SELECT status = 'streaming' FROM pg_stat_get_wal_receiver()), false),
 'restoring', pg_is_in_recovery() AND (coalesce(current_setting('recovery_target', true), '') <> ''
   OR coalesce(current_setting('recovery_target_lsn', true), '') <> ''
   OR coalesce(current_setting('recovery_target_name', true), '') <> ''
   OR coalesce(current_setting('recovery_target_time', true), '') <> ''
   OR coalesce(current_setting('recovery_target_xid', true), '') <> ''),
 'paused', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END,
 'asked_as', current_user, 'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
 'lacks', (SELECT coalesce(json_agg(sql), '[]') FROM (
   SELECT format('GRANT %s TO %I', r, current_user) AS sql
     FROM (VALUES {checkpoint} ('pg_monitor'), ('pg_signal_backend')) AS needed(r)
     WHERE NOT pg_has_role(r, 'MEMBER')
   UNION ALL SELECT format('ALTER ROLE %I REPLICATION', current_user)
     WHERE NOT (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
   UNION ALL SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', f, current_user)
     FROM (VALUES ('pg_wal_replay_pause()'), ('pg_wal_replay_resume()')) AS needed(f)
     WHERE NOT has_function_privilege(f, 'EXECUTE')) AS l),
 'settings', (SELECT json_object_agg(name, json_build_object('value', setting, 'shown', current_setting(name, true), 'context', context,
   'source', source, 'pending', pending_restart)) FROM pg_settings),
 'databases', (SELECT json_agg(json_build_object('name', datname, 'encoding', pg_encoding_to_char(encoding),
   'collate', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', datcollate),
   'provider', to_jsonb(d) ->> 'datlocprovider',
   'recorded', to_jsonb(d) ->> 'datcollversion', 'actual', {actual}) ORDER BY datname)
   FROM pg_database d WHERE datallowconn),
 'collations', (SELECT coalesce(json_object_agg(collprovider, version), '{{}}') FROM (
   SELECT collprovider, max(pg_collation_actual_version(oid)) AS version FROM pg_collation
    WHERE collprovider IN ('c', 'i') GROUP BY collprovider) AS c WHERE version IS NOT NULL),
 'available', (SELECT coalesce(json_object_agg(name, default_version), '{{}}') FROM pg_available_extensions()),
 'tablespaces', (SELECT coalesce(json_object_agg(spcname, pg_tablespace_location(oid)), '{{}}')
   FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),
 'bytes', (SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')),
 'replication', coalesce((SELECT json_build_object('name', rolname, 'exists', true, 'login', rolcanlogin,
   'replication', rolreplication, 'superuser', rolsuper, 'lacks', (SELECT coalesce(json_agg(f), '[]')
     FROM (VALUES {lacks}) AS needed(f) WHERE NOT has_function_privilege(r.oid, f, 'EXECUTE')))
   FROM pg_roles r WHERE rolname = {role}), json_build_object('name', {role})),
 'standbys', (SELECT coalesce(json_agg(json_build_object('name', application_name, 'address', host(client_addr),
   'state', coalesce(state, 'unknown'))), '[]') FROM pg_stat_replication),
 'slots', (SELECT coalesce(json_agg(slot_name ORDER BY slot_name), '[]') FROM pg_get_replication_slots()
   WHERE slot_type = 'physical'),
 'managers', (SELECT coalesce(json_agg(DISTINCT name), '[]') FROM (
   SELECT application_name AS name FROM pg_stat_activity
    WHERE application_name ~* '^(patroni|repmgrd?|pgautofailover|pg_auto_failover|stolon|pg_auto_failover_monitor)'
   UNION ALL SELECT extname::text FROM pg_extension WHERE extname IN ('repmgr', 'pgautofailover')) AS m),
 'our_address', host(inet_client_addr()));"
    )
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The difference of the clocks. Its doubt is half the time that the answer took.
async fn clock(psql: &Psql, conninfo: &str) -> Option<(f64, f64)> {
    let (began, before) = (started(), jiff::Timestamp::now());
    let theirs: f64 = psql
        .ask(conninfo, "SELECT extract(epoch FROM clock_timestamp());")
        .await
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let took = began.elapsed().as_secs_f64();
    let ours = before.as_duration().as_secs_f64() + took / 2.0;
    Some((theirs - ours, took / 2.0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a command took that a person started; nothing decides by it"
)]
fn started() -> Instant {
    Instant::now()
}

async fn hindrances(psql: &Psql, conninfo: &str) -> Option<Vec<Hindrance>> {
    let sql = format!(
        "SET search_path = pg_catalog;
         SELECT coalesce(json_agg(row_to_json(h)), '[]') FROM (SELECT name AS setting, value, file, in_force FROM ({HINDRANCES}) AS n \
         UNION ALL SELECT 'recovery.signal', '', current_setting('data_directory'), false \
           WHERE (pg_stat_file('recovery.signal', true)).modification IS NOT NULL) AS h;"
    );
    let found: Vec<Hindrance> = serde_json::from_str(&psql.ask(conninfo, &sql).await.ok()?).ok()?;
    Some(worth_telling(found))
}

async fn hba(psql: &Psql, conninfo: &str) -> Option<Vec<HbaRule>> {
    let sql = "SET search_path = pg_catalog;
        SELECT coalesce(json_agg(row_to_json(r) ORDER BY line_number), '[]') FROM pg_hba_file_rules r;";
    serde_json::from_str(&psql.ask(conninfo, sql).await.ok()?).ok()
}

async fn certificate(psql: &Psql, conninfo: &str, seen: &Seen) -> Option<Certificate> {
    let file = seen.value("ssl_cert_file").filter(|_| seen.value("ssl") == Some("on"))?.to_owned();
    let pem =
        psql.ask(conninfo, "SELECT pg_catalog.pg_read_file(current_setting('ssl_cert_file'));").await.ok()?;
    Some(Certificate { file, until: expiry(&pem) })
}

/// Looks into one database; what is there of extensions is added.
async fn enter(psql: &Psql, conninfo: &str, database: &str, seen: &mut Seen) {
    let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
    let sql = "SET search_path = pg_catalog; SELECT coalesce(json_object_agg(extname, extversion), '{}') FROM pg_extension;";
    // Of a keyword given twice the last one counts.
    let answer = psql.ask(&format!("{conninfo} dbname='{quoted}'"), sql).await;
    let found = answer
        .ok()
        .and_then(|text| serde_json::from_str::<std::collections::BTreeMap<String, String>>(&text).ok());
    let Some(found) = found else { return seen.closed.push(database.to_owned()) };
    for (name, version) in found {
        let used = format!("{version} in {database}");
        if ["repmgr", "pgautofailover"].contains(&name.as_str()) && !seen.managers.contains(&name) {
            seen.managers.push(name.clone());
        }
        let list = seen.installed.entry(name).or_default();
        *list = if list.is_empty() { used } else { format!("{list}, {used}") };
    }
}

impl Role {
    /// Statements that make it what it must be, on the primary. Never a password.
    #[must_use]
    pub fn grants(&self) -> Vec<String> {
        let grant =
            |function: &String| format!("GRANT EXECUTE ON FUNCTION {function} TO {}", identifier(&self.name));
        if self.superuser { Vec::new() } else { self.lacks.iter().map(grant).collect() }
    }
}

/// A name as SQL takes it.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
