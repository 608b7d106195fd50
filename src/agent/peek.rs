//! The first bytes of the control file: whose data it is and how it ended, without starting a program.
//!
//! `ControlFileData` has begun with these fields, in the machine's byte order, since PostgreSQL 8.0
//! (`src/include/catalog/pg_control.h`). Everything else is read by `pg_controldata`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::model::SystemId;

/// What a peek shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peek {
    /// Whose data it is.
    pub(super) system: SystemId,
    /// It was shut down in order, as a primary or as a standby.
    pub(super) clean: bool,
}

/// Peeks. None: there is no control file, so no data directory yet. Blocking.
pub(super) fn control(data_dir: &Path) -> io::Result<Option<Peek>> {
    let mut head = [0_u8; 20];
    match File::open(data_dir.join("global/pg_control")) {
        Ok(mut file) => file.read_exact(&mut head)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    Ok(Some(parse(&head)))
}

fn parse(head: &[u8; 20]) -> Peek {
    let [a, b, c, d, e, f, g, h, .., w, x, y, z] = *head;
    let state = u32::from_ne_bytes([w, x, y, z]);
    // DB_SHUTDOWNED and DB_SHUTDOWNED_IN_RECOVERY.
    Peek { system: SystemId(u64::from_ne_bytes([a, b, c, d, e, f, g, h])), clean: matches!(state, 1 | 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_end_are_where_postgresql_writes_them() {
        let mut head = [0_u8; 20];
        head[..8].copy_from_slice(&7_u64.to_ne_bytes());
        head[16..].copy_from_slice(&1_u32.to_ne_bytes());
        assert_eq!(parse(&head), Peek { system: SystemId(7), clean: true });
        head[16..].copy_from_slice(&6_u32.to_ne_bytes());
        assert!(!parse(&head).clean, "in production");
    }

    #[test]
    fn an_absent_directory_is_no_error() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(control(dir.path()).expect("peek"), None);
    }
}
