//! The first bytes of the control file: whose data it is, how it ended and where it recovers from, without starting a program.
//!
//! `ControlFileData` has begun with these fields, in the machine's byte order, since PostgreSQL 11
//! (`src/include/catalog/pg_control.h`). Everything else is read by `pg_controldata`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::model::{Lsn, SystemId};

/// Bytes up to the end of the redo point.
const HEAD: usize = 48;

/// What a peek shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peek {
    /// Whose data it is.
    pub(super) system: SystemId,
    /// It was shut down in order, as a primary or as a standby.
    pub(super) clean: bool,
    /// It is, or was when it ended, in archive recovery: a standby's.
    pub(super) in_recovery: bool,
    /// The redo point of its last checkpoint.
    pub(super) redo: Lsn,
}

/// Peeks. None: there is no control file, so no data directory yet. Blocking.
pub(super) fn control(data_dir: &Path) -> io::Result<Option<Peek>> {
    let mut head = [0_u8; HEAD];
    match File::open(data_dir.join("global/pg_control")) {
        Ok(mut file) => file.read_exact(&mut head)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    Ok(Some(parse(&head)))
}

fn parse(head: &[u8; HEAD]) -> Peek {
    let state = head[16..20].try_into().map_or(0, u32::from_ne_bytes);
    let long = |at: usize| head[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
    // DB_SHUTDOWNED and DB_SHUTDOWNED_IN_RECOVERY; the latter and DB_IN_ARCHIVE_RECOVERY.
    let (clean, in_recovery) = (matches!(state, 1 | 2), matches!(state, 2 | 5));
    Peek { system: SystemId(long(0)), clean, in_recovery, redo: Lsn(long(40)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_end_are_where_postgresql_writes_them() {
        let mut head = [0_u8; HEAD];
        head[..8].copy_from_slice(&7_u64.to_ne_bytes());
        head[16..20].copy_from_slice(&1_u32.to_ne_bytes());
        head[40..].copy_from_slice(&9_u64.to_ne_bytes());
        let expected = Peek { system: SystemId(7), clean: true, in_recovery: false, redo: Lsn(9) };
        assert_eq!(parse(&head), expected);
        head[16..20].copy_from_slice(&6_u32.to_ne_bytes());
        assert!(!parse(&head).clean && !parse(&head).in_recovery, "in production");
        head[16..20].copy_from_slice(&5_u32.to_ne_bytes());
        assert!(!parse(&head).clean && parse(&head).in_recovery, "a standby");
    }

    #[test]
    fn an_absent_directory_is_no_error() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(control(dir.path()).expect("peek"), None);
    }
}
