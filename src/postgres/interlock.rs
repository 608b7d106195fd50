//! The interlock segment: the small SysV shared memory segment that every process of a server maps while it can change data.
//!
//! PostgreSQL itself tells by this segment whether processes of a dead postmaster are left (`PGSharedMemoryIsInUse`). It
//! has no path: the id stays the same whatever happens to the data directory. The kernel shows the id as the inode number
//! of the line in `/proc/PID/maps`. The logger detaches from it, and a program that the server runs (an `archive_command`,
//! `COPY … PROGRAM`) maps it no more once it was executed: these write no data. The archiver, walsenders and the walreceiver
//! do map it. Never touches a file system that could hang.

use std::{fs, io, mem::MaybeUninit, os::unix::fs::MetadataExt as _};

/// What the kernel calls a mapped SysV segment in `maps`, before the key.
const SYSV: &str = "/SYSV";

/// The line of `postmaster.pid` that holds key and id of the segment, counted from 0 (`miscadmin.h`).
pub(super) const LOCK_FILE_LINE: usize = 6;

/// What the kernel knows of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// The process that made it.
    creator: u32,
    attached: u64,
}

/// The ids of the SysV segments that a process maps. Empty for one that has given its memory back, zombies included.
///
/// # Errors
/// There is no such process, or it may not be looked at.
pub(super) fn mapped(pid: u32) -> io::Result<Vec<u32>> {
    Ok(parse_maps(&fs::read_to_string(format!("/proc/{pid}/maps"))?))
}

/// The segments that tell a server, from a look at its living postmaster. `told`: the id in its `postmaster.pid`, where that
/// could be read. Without it those that the postmaster made itself, so that a segment that an extension shares with other
/// programs does not count; where that cannot be told either, all that it maps.
///
/// # Errors
/// As [`mapped`].
pub(super) fn of_postmaster(pid: u32, told: Option<u32>) -> io::Result<Vec<u32>> {
    let mapped = mapped(pid)?;
    if let Some(told) = told.filter(|told| mapped.contains(told)) {
        return Ok(vec![told]);
    }
    let made = |id: &u32| segment(*id).is_ok_and(|segment| segment.is_some_and(|it| it.creator == pid));
    let own: Vec<u32> = mapped.iter().copied().filter(made).collect();
    Ok(if own.is_empty() { mapped } else { own })
}

/// How many processes are attached to these segments, leaving ones included that give their memory back. A segment that is
/// gone has none. This is the test that PostgreSQL makes (`nattch`). None: the kernel does not tell.
pub(super) fn attached(ids: &[u32]) -> Option<u64> {
    ids.iter().map(|id| Some(segment(*id).ok()?.map_or(0, |segment| segment.attached))).sum()
}

/// The namespace that a process's segment ids are of: another container has its own, with the same small numbers.
pub(super) fn namespace(pid: u32) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/ns/ipc"))?.ino())
}

/// The namespace that [`attached`] is about.
pub(super) fn own_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/ipc").ok()?.ino())
}

/// None: there is no such segment.
fn segment(id: u32) -> io::Result<Option<Segment>> {
    match ask(id) {
        // Another user's. The table shows everybody's; but it is long where many servers were killed, for each leaves one behind.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => in_table(id),
        asked => asked,
    }
}

#[expect(unsafe_code, reason = "no safe crate in use has shmctl(2)")]
fn ask(id: u32) -> io::Result<Option<Segment>> {
    let Ok(id) = i32::try_from(id) else { return Ok(None) };
    let mut seen = MaybeUninit::<libc::shmid_ds>::uninit();
    // SAFETY: IPC_STAT writes a whole `shmid_ds` to where the pointer leads, and reads nothing.
    if unsafe { libc::shmctl(id, libc::IPC_STAT, seen.as_mut_ptr()) } == 0 {
        // SAFETY: the call has succeeded, so it is written.
        let seen = unsafe { seen.assume_init() };
        return Ok(Some(Segment { creator: seen.shm_cpid.cast_unsigned(), attached: seen.shm_nattch }));
    }
    let error = io::Error::last_os_error();
    let is_gone = [libc::EINVAL, libc::EIDRM].map(Some).contains(&error.raw_os_error());
    if is_gone { Ok(None) } else { Err(error) }
}

fn in_table(id: u32) -> io::Result<Option<Segment>> {
    let table = fs::read_to_string("/proc/sysvipc/shm")?;
    Ok(table.lines().skip(1).filter_map(parse_row).find(|(of, _)| *of == id).map(|(_, segment)| segment))
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE PATH` (`proc_pid_maps(5)`).
fn parse_maps(text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    for line in text.lines().filter(|line| line.contains(SYSV)) {
        let mut words = line.split_whitespace().skip(4);
        let (inode, path) = (words.next(), words.next());
        if let Some(id) = inode.filter(|_| path.is_some_and(|path| path.starts_with(SYSV)))
            && let Ok(id) = id.parse()
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    ids
}

/// `key shmid perms size cpid lpid nattch …`
fn parse_row(line: &str) -> Option<(u32, Segment)> {
    let words: Vec<&str> = line.split_whitespace().take(7).collect();
    let segment = Segment { creator: words.get(4)?.parse().ok()?, attached: words.get(6)?.parse().ok()? };
    Some((words.get(1)?.parse().ok()?, segment))
}

/// The id in a line of `postmaster.pid`: key and id, in columns.
pub(super) fn told(lines: &[String]) -> Option<u32> {
    lines.get(LOCK_FILE_LINE)?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_mapped_segment_is_its_inode_and_no_file_of_that_name_is_one() {
        let maps = "7f00-7f01 rw-s 00000000 00:01 4      /SYSV0099001e (deleted)\n\
                    7f02-7f03 r--p 00000000 fe:00 77     /usr/lib/locale/C.utf8\n\
                    7f04-7f05 rw-s 00000000 fe:00 78     /tmp/SYSV0099001e (deleted)\n\
                    7f06-7f07 rw-s 00000000 00:01 4      /SYSV0099001e (deleted)\n\
                    7f08-7f09 rw-p 00000000 00:00 0 \n";
        assert_eq!(parse_maps(maps), [4]);
    }

    #[test]
    fn the_kernels_table_and_the_lock_file_are_read() {
        let row = "  10027038          4   600                    56 14692 14699      9   101   104   101";
        assert_eq!(parse_row(row), Some((4, Segment { creator: 14_692, attached: 9 })));
        assert_eq!(parse_row("key shmid"), None);
        let lines = ["1", "/d", "2", "3", "/s", "", " 10027038         4", "ready"].map(str::to_owned);
        assert_eq!(told(&lines), Some(4));
        assert_eq!(told(&lines[..5]), None);
    }

    #[test]
    fn a_process_without_segments_maps_none_and_a_segment_that_is_gone_has_nobody() {
        assert_eq!(mapped(std::process::id()).unwrap(), Vec::<u32>::new());
        assert_eq!(attached(&[u32::MAX]), Some(0));
        assert_eq!(attached(&[0x7fff_fff0]), Some(0));
        assert_eq!(namespace(std::process::id()).ok(), own_namespace());
    }

    #[test]
    #[expect(unsafe_code, reason = "no safe crate in use has shmget(2)")]
    fn a_segment_is_the_same_to_the_call_and_in_the_table() {
        // SAFETY: it makes a segment, and maps nothing.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 64, libc::IPC_CREAT | 0o600) };
        let known = u32::try_from(id).expect("a segment");
        let (asked, told) = (ask(known).unwrap(), in_table(known).unwrap());
        // SAFETY: the segment is this test's own, and nobody maps it.
        assert_eq!(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }, 0);
        assert_eq!((asked, told), (Some(Segment { creator: std::process::id(), attached: 0 }), asked));
        assert_eq!((ask(known).unwrap(), in_table(known).unwrap()), (None, None));
    }
}
