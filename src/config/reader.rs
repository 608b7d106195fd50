//! Takes values out of the merged layers one key at a time, and remembers for each where it came from.
//!
//! Every key that is asked for is thereby known; what is left over at the end is unknown, and is answered with the
//! nearest known one. A bad value becomes a problem and reading goes on, so that all problems are told at once.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use figment::{
    Figment, Metadata, Source,
    value::{Dict, Tag, Value},
};

use super::{Problem, sources::FLAG};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Nobody set it; it follows from something else, in words.
    Derived(String),
    /// The file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// `--set` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(from) => f.write_str(from),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => write!(f, "flag {FLAG}"),
        }
    }
}

/// One key with its effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key, as in `policy.hang`; of an endpoint: `endpoint[db].listen`.
    pub key: String,
    /// The value as TOML. Never a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A key that nobody asked for.
struct Leftover {
    section: String,
    key: String,
    origin: Option<Origin>,
}

/// The reading of one configuration.
pub(super) struct Reader {
    figment: Figment,
    root: Dict,
    known: BTreeSet<(String, String)>,
    leftovers: Vec<Leftover>,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Begins to read.
    pub(super) fn new(figment: Figment) -> Self {
        let root = figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default();
        Self {
            figment,
            root,
            known: BTreeSet::new(),
            leftovers: Vec::new(),
            settings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The keys that stand in no section.
    pub(super) fn top(&mut self) -> Section<'_> {
        let dict = std::mem::take(&mut self.root);
        Section { reader: self, name: String::new(), pattern: String::new(), dict, present: true }
    }

    /// A section; empty if it is not there.
    pub(super) fn section(&mut self, name: &str) -> Section<'_> {
        self.known.insert((String::new(), name.to_owned()));
        let value = self.root.remove(name);
        let present = value.is_some();
        let dict = match value {
            Some(Value::Dict(_, dict)) => dict,
            Some(other) => {
                let origin = self.origin(other.tag(), name);
                let problem =
                    Problem::error(name, "is a section, not a value", format!("Write it as [{name}]."));
                self.problems.push(problem.from(origin));
                Dict::new()
            }
            None => Dict::new(),
        };
        Section { reader: self, name: name.to_owned(), pattern: name.to_owned(), dict, present }
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&mut self, name: &str) -> Vec<Dict> {
        self.known.insert((String::new(), name.to_owned()));
        let tables = match self.root.remove(name) {
            None => Some(Vec::new()),
            Some(Value::Array(_, items)) => items.into_iter().map(Value::into_dict).collect(),
            Some(_) => None,
        };
        tables.unwrap_or_else(|| {
            let fix = format!(
                "Write each one as [[{name}]] into the file, followed by its keys; --set and the environment cannot \
                 reach into it."
            );
            self.problems.push(Problem::error(name, "is not a list of sections", fix));
            Vec::new()
        })
    }

    /// One table of an array of tables, under the name that messages call it by.
    pub(super) fn table(&mut self, list: &str, label: &str, dict: Dict) -> Section<'_> {
        let name = format!("{list}[{label}]");
        Section { reader: self, name, pattern: list.to_owned(), dict, present: true }
    }

    /// Adds a problem.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Names what is left over, and hands out what was read.
    pub(super) fn finish(mut self) -> (Vec<Setting>, Vec<Problem>) {
        for (key, value) in std::mem::take(&mut self.root) {
            let origin = self.origin(value.tag(), &key);
            self.leftovers.push(Leftover { section: String::new(), key, origin });
        }
        for leftover in std::mem::take(&mut self.leftovers) {
            let fix = self.suggest(&leftover);
            let key = join(&leftover.section, &leftover.key);
            self.problems.push(Problem::error(key, "is no known key", fix).from(leftover.origin));
        }
        (self.settings, self.problems)
    }

    fn suggest(&self, leftover: &Leftover) -> String {
        // As `locum config print` names it.
        if let Some((name, _)) = leftover.key.split_once('[') {
            return format!(
                "Set it in the file, in its [[{name}]]; --set and the environment cannot reach it."
            );
        }
        let pattern = leftover.section.split('[').next().unwrap_or_default();
        let here = self.known.iter().filter(|(section, _)| section == pattern);
        let near = here
            .clone()
            .map(|(_, key)| (distance(key, &leftover.key), key))
            .min()
            .filter(|(distance, key)| *distance <= 1 + key.len() / 4);
        if let Some((_, key)) = near {
            return format!("Did you mean {}?", join(&leftover.section, key));
        }
        if let Some((section, key)) = self.known.iter().find(|(_, key)| *key == leftover.key) {
            return match section.as_str() {
                "" => format!("{key} stands at the top of the file, before the first [section]."),
                section => format!("Did you mean {key} in [{section}]?"),
            };
        }
        let known: Vec<_> = here.map(|(_, key)| key.as_str()).collect();
        let place = if pattern.is_empty() { "at the top".to_owned() } else { format!("in [{pattern}]") };
        format!("Remove it. Known {place}: {}.", known.join(", "))
    }

    fn origin(&self, tag: Tag, key: &str) -> Option<Origin> {
        self.figment.get_metadata(tag).map(|metadata| origin(metadata, key))
    }
}

fn origin(metadata: &Metadata, key: &str) -> Origin {
    match &metadata.source {
        Some(Source::File(path)) => Origin::File(path.clone()),
        _ if metadata.name == FLAG => Origin::Flag,
        _ => Origin::Environment(format!("LOCUM_{}", key.to_ascii_uppercase().replace('.', "__"))),
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The keys of one section.
pub(super) struct Section<'a> {
    reader: &'a mut Reader,
    name: String,
    /// The section's name without the label of a table in a list.
    pattern: String,
    dict: Dict,
    present: bool,
}

impl Section<'_> {
    /// True if any layer mentions it.
    pub(super) const fn is_present(&self) -> bool {
        self.present
    }

    /// True if any layer gives the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.dict.contains_key(key)
    }

    /// Counts a key among the known ones without reading it.
    pub(super) fn know(&mut self, key: &str) {
        self.reader.known.insert((self.pattern.clone(), key.to_owned()));
    }

    /// A value that may be missing.
    pub(super) fn maybe<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        self.reader.known.insert((self.pattern.clone(), key.to_owned()));
        let value = self.dict.remove(key)?;
        let name = join(&self.name, key);
        let origin = self.reader.origin(value.tag(), &name);
        match read(&value) {
            Ok(good) => {
                self.reader.settings.push(Setting {
                    key: name,
                    value: show(&good),
                    origin: origin.unwrap_or(Origin::Default),
                });
                Some(good)
            }
            Err(what) => {
                let (what, fix) = what.split_once("; ").map_or((what.as_str(), "Change it."), |both| both);
                let mut fix = fix.to_owned();
                fix[..1].make_ascii_uppercase();
                if !fix.ends_with(['.', '?']) {
                    fix.push('.');
                }
                self.reader.problem(Problem::error(name, what, fix).from(origin));
                None
            }
        }
    }

    /// A value with a default.
    pub(super) fn or<T>(
        &mut self,
        key: &str,
        default: T,
        read: impl FnOnce(&Value) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let missing = !self.dict.contains_key(key);
        match self.maybe(key, read, &show) {
            Some(value) => value,
            None => {
                if missing {
                    self.note(key, show(&default), Origin::Default);
                }
                default
            }
        }
    }

    /// A value that must be there.
    pub(super) fn need<T>(
        &mut self,
        key: &str,
        fix: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let missing = !self.dict.contains_key(key);
        let value = self.maybe(key, read, show);
        if missing {
            self.reader.problem(Problem::error(join(&self.name, key), "is missing", fix));
        }
        value
    }

    /// A value that nobody set, and why it is what it is.
    pub(super) fn note(&mut self, key: &str, value: String, origin: Origin) {
        self.reader.settings.push(Setting { key: join(&self.name, key), value, origin });
    }

    /// Ends the section: what is left in it is unknown. At the top, the sections are left.
    pub(super) fn finish(self) {
        let Self { reader, name, dict, .. } = self;
        if name.is_empty() {
            reader.root = dict;
            return;
        }
        for (key, value) in dict {
            let origin = reader.origin(value.tag(), &join(&name, &key));
            reader.leftovers.push(Leftover { section: name.clone(), key, origin });
        }
    }
}

/// How many letters must be added, taken away or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (one, other, expected) in [("", "", 0), ("hang", "hang", 0), ("hagn", "hang", 2), ("", "abc", 3)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
