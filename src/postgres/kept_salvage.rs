//! The salvage folders of a node, for people and for whoever cleans up. Blocking; looks at files only.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::salvage::{LIST, MANIFEST};
use crate::model::LossList;

/// How long the line before the transactions may be: the tables and sequences of one loss.
const HEAD_BYTES: u64 = 64 << 20;

/// The ending of a folder that is being made.
pub(super) const PART: &str = "part";

/// One folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSalvage {
    /// Its name.
    pub id: String,
    /// Where it is.
    pub dir: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was completed, by the clock of the file system.
    pub made: SystemTime,
}

/// How much is kept of what was salvaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SalvageLimits {
    /// Bytes of all folders together, and of the WAL in one.
    pub max_bytes: u64,
    /// The age of a folder.
    pub max_age: Duration,
    /// Bytes of a data directory that is copied whole before it is given up; 0: none is.
    pub max_copy: u64,
}

/// Where the folders of a state directory are.
pub(super) fn place(state_dir: &Path) -> PathBuf {
    state_dir.join("salvage")
}

/// The folders that are whole, oldest first.
///
/// # Errors
/// The file system refused.
pub fn kept(state_dir: &Path) -> io::Result<Vec<KeptSalvage>> {
    let entries = match fs::read_dir(place(state_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // The manifest comes last: without it the folder is not whole.
        let Ok(manifest) = fs::metadata(entry.path().join(MANIFEST)) else { continue };
        let id = entry.file_name().to_string_lossy().into_owned();
        let dir = entry.path();
        if !is_half_made(&dir) {
            let made = manifest.modified()?;
            found.push(KeptSalvage { id, bytes: size(&dir)?, dir, made });
        }
    }
    found.sort_by(|a, b| a.made.cmp(&b.made).then_with(|| a.id.cmp(&b.id)));
    Ok(found)
}

/// The folders that are being made, or were when whoever made them was killed.
pub(super) fn half_made(place: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.filter(|path| path.as_ref().map_or(true, |path| is_half_made(path))).collect()
}

fn is_half_made(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == PART) && path.is_dir()
}

fn size(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// Reads the list of one folder with its first transactions, `most` at most. None: there is no such folder.
///
/// # Errors
/// The file system refused, or the file is not as it was written.
pub fn read_list(state_dir: &Path, id: &str, most: usize) -> io::Result<Option<LossList>> {
    // A name, and no path to elsewhere.
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Ok(None);
    }
    let mut file = match fs::File::open(place(state_dir).join(id).join(LIST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => BufReader::new(file?),
    };
    let mut head = String::new();
    io::Read::take(&mut file, HEAD_BYTES).read_line(&mut head)?;
    let mut list: LossList = serde_json::from_str(&format!("{}]}}", head.trim_end()))?;
    for line in file.lines().take(most) {
        let line = line?;
        let Some(object) = Some(line.trim_end_matches(',')).filter(|line| line.starts_with('{')) else {
            break;
        };
        list.transactions.push(serde_json::from_str(object)?);
    }
    Ok(Some(list))
}

/// Removes folders that are too old, then the oldest ones until the rest fits. The newest one always stays: it is of the
/// node's last loss, and every earlier one was over when that began. Returns what was removed, and why, in words.
///
/// # Errors
/// The file system refused.
pub(super) fn prune(state_dir: &Path, limits: SalvageLimits, now: SystemTime) -> io::Result<Vec<String>> {
    let mut all = kept(state_dir)?;
    let newest = all.pop().map_or(0, |newest| newest.bytes);
    let mut sum = newest + all.iter().map(|folder| folder.bytes).sum::<u64>();
    let mut removed = Vec::new();
    for folder in all {
        let age = now.duration_since(folder.made).unwrap_or_default();
        let why = if age > limits.max_age {
            format!("is {} days old", age.as_secs() / 86_400)
        } else if sum > limits.max_bytes {
            format!("all salvages take {sum} bytes, and {} are allowed", limits.max_bytes)
        } else {
            continue;
        };
        fs::remove_dir_all(&folder.dir)?;
        sum -= folder.bytes;
        removed.push(format!("{}: {why}", folder.dir.display()));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(state_dir: &Path, id: &str, bytes: usize, age_days: u64) {
        let dir = place(state_dir).join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("wal"), vec![0; bytes]).unwrap();
        let manifest = fs::File::create(dir.join(MANIFEST)).unwrap();
        manifest.set_modified(now() - Duration::from_secs(age_days * 86_400)).unwrap();
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn ids(state_dir: &Path) -> Vec<String> {
        kept(state_dir).unwrap().into_iter().map(|folder| folder.id).collect()
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_never() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ids(dir.path()), [""; 0]);
        for (id, bytes, age) in [("c", 500, 1), ("a", 100, 40), ("b", 300, 5), ("d", 900, 0)] {
            folder(dir.path(), id, bytes, age);
        }
        fs::create_dir_all(place(dir.path()).join("e.part")).unwrap();
        assert_eq!(ids(dir.path()), ["a", "b", "c", "d"]);
        let limits = |max_bytes, days: u64| SalvageLimits {
            max_bytes,
            max_age: Duration::from_secs(days * 86_400),
            max_copy: 0,
        };
        let removed = prune(dir.path(), limits(10_000, 30), now()).unwrap();
        assert!(removed.len() == 1 && removed[0].contains("a: is 40 days old"), "{removed:?}");
        let removed = prune(dir.path(), limits(1_500, 30), now()).unwrap();
        assert!(removed.len() == 1 && removed[0].contains("1700 bytes"), "{removed:?}");
        assert_eq!(prune(dir.path(), limits(1_500, 30), now()).unwrap(), [""; 0]);
        assert_eq!(prune(dir.path(), limits(10, 0), now()).unwrap().len(), 1);
        assert_eq!(ids(dir.path()), ["d"], "alone too much, and kept");
    }

    #[test]
    fn no_name_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["", "..", "../x", "a/b", "nothing"] {
            assert_eq!(read_list(dir.path(), id, 1).unwrap(), None, "{id}");
        }
    }
}
