//! Names for the files that a list of lost transactions speaks of, as the new primary knows them.
//!
//! A file that was made in the lost part is never asked for: the new primary may have given its number to another
//! relation since. Nothing here is needed for the numbers to be right, so what cannot be asked is a note, no error.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;

use super::{
    Instance, PgError,
    record::Filenode,
    run::{self, Limit},
};

/// How long one question may take.
const ASK: Limit = Limit::Total(Duration::from_secs(10));

/// How many files one question asks for: its answer stays well below what is read of one.
const FILES: usize = 500;

/// Numbers below are the system's own from the beginning (`FirstNormalObjectId`).
const FIRST_NORMAL: u32 = 16384;

const DATABASES: &str = "SELECT coalesce(json_agg(json_build_array(oid::bigint, datname)), '[]') \
                         FROM pg_database WHERE datallowconn";

/// What a relation is to a reader of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has rows of users.
    Table,
    /// It belongs to the system.
    Catalogue,
    Sequence,
    /// Indexes, and the parts of long values: no rows of their own.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) database: Option<String>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) is_known: bool,
}

/// The names that were found.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    found: BTreeMap<Filenode, Name>,
    databases: BTreeMap<u32, String>,
    /// What could not be asked.
    pub(super) notes: Vec<String>,
}

impl Names {
    /// The name of a file, or what stands for it.
    pub(super) fn of(&self, file: Filenode) -> Name {
        let unknown = || Name {
            database: self.databases.get(&file.database).cloned(),
            name: format!("filenode {file}"),
            kind: if file.number < FIRST_NORMAL { Kind::Catalogue } else { Kind::Table },
            is_known: false,
        };
        self.found.get(&file).cloned().unwrap_or_else(unknown)
    }
}

#[derive(Deserialize)]
struct Found {
    space: u32,
    number: u32,
    relation: u32,
    kind: char,
    name: String,
}

impl Instance {
    /// Asks a server, reached by `session` in each database, for the names of these files.
    pub(super) async fn names(&self, session: impl Fn(&str) -> String, files: &BTreeSet<Filenode>) -> Names {
        let mut names = Names::default();
        match self.ask(&session("postgres"), DATABASES).await {
            Ok(list) => {
                let list: Vec<(u32, String)> = list;
                names.databases = list.into_iter().collect();
            }
            Err(error) => {
                names.notes.push(format!("no names of databases: {error}"));
                return names;
            }
        }
        let mut by_database: BTreeMap<u32, Vec<Filenode>> = BTreeMap::new();
        for file in files {
            by_database.entry(file.database).or_default().push(*file);
        }
        for (oid, files) in by_database {
            // What is shared can be asked for anywhere.
            let database = names.databases.get(&oid).cloned();
            let Some(asked) = database.clone().or_else(|| (oid == 0).then(|| "postgres".to_owned())) else {
                names.notes.push(format!("no names of tables of database {oid}, which is not there"));
                continue;
            };
            for files in files.chunks(FILES) {
                match self.ask::<Vec<Found>>(&session(&asked), &question(files)).await {
                    Ok(found) => names.found.extend(found.into_iter().map(|found| {
                        let file = Filenode { space: found.space, database: oid, number: found.number };
                        (file, named(found, database.clone()))
                    })),
                    Err(error) => {
                        names.notes.push(format!("no names of tables of database {asked}: {error}"));
                        break;
                    }
                }
            }
        }
        names
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, session: &str, sql: &str) -> Result<T, PgError> {
        let mut command = self.command("psql");
        command.env("PGOPTIONS", super::psql::OPTIONS).env("PGCLIENTENCODING", "UTF8");
        command.args(["-X", "-A", "-t", "-w", "-c", sql, "-d", session]);
        let text = run::text("psql", command, ASK).await?;
        serde_json::from_str(&text).map_err(|error| PgError::Nonsense(format!("psql: {error}")))
    }
}

fn question(files: &[Filenode]) -> String {
    let values: Vec<String> =
        files.iter().map(|file| format!("({}::oid,{}::oid)", file.space, file.number)).collect();
    format!(
        "SELECT coalesce(json_agg(json_build_object('space', f.space::bigint, 'number', f.number::bigint, \
         'relation', c.oid::bigint, 'kind', c.relkind, 'name', format('%I.%I', n.nspname, c.relname))), '[]') \
         FROM (VALUES {}) f (space, number) \
         JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.pg_filenode_relation(f.space, f.number) \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
        values.join(",")
    )
}

fn named(found: Found, database: Option<String>) -> Name {
    let kind = match found.kind {
        'r' | 'm' | 'p' if found.relation < FIRST_NORMAL => Kind::Catalogue,
        'r' | 'm' | 'p' => Kind::Table,
        'S' => Kind::Sequence,
        _ => Kind::Other,
    };
    Name { database, name: found.name, kind, is_known: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_name_is_known_by_number() {
        let names = Names { databases: [(5, "shop".to_owned())].into(), ..Names::default() };
        let unknown = names.of(Filenode { space: 1663, database: 5, number: 16500 });
        assert_eq!((unknown.name.as_str(), unknown.kind), ("filenode 1663/5/16500", Kind::Table));
        assert_eq!(unknown.database.as_deref(), Some("shop"));
        let system = names.of(Filenode { space: 1663, database: 5, number: 1259 });
        assert_eq!((system.kind, system.is_known), (Kind::Catalogue, false));
    }

    #[test]
    fn what_belongs_to_the_system_is_no_table_of_users() {
        let found = |relation, kind| Found { space: 1663, number: 1, relation, kind, name: "a.b".into() };
        let kind = |relation, kind| named(found(relation, kind), None).kind;
        assert_eq!(kind(1259, 'r'), Kind::Catalogue);
        assert_eq!(kind(20000, 'r'), Kind::Table);
        assert_eq!(kind(20000, 't'), Kind::Other);
        assert_eq!(kind(20000, 'S'), Kind::Sequence);
        assert!(question(&[Filenode { space: 1, database: 2, number: 3 }]).contains("(1::oid,3::oid)"));
    }
}
