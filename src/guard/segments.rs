//! The interlock segments of the server under guard: whoever maps one can write its data, whosever child it is. Read when the
//! server is put under guard, and again while it lives; allocates nothing after that.
//!
//! A server makes its segment at its start, and another one when it recovers behind its postmaster. The kernel shows a
//! mapped one in `/proc/PID/maps` as a path that begins with `/SYSV`, with its id in the place of the inode
//! (`proc_pid_maps(5)`).

use rustix::io::read;

use super::family::Proc;

/// How many are remembered. A postmaster maps one, or two with `dynamic_shared_memory_type = sysv`.
const MOST: usize = 8;
/// A line of `maps` but for its path, and the beginning of that, fit in this many times over.
const BUFFER: usize = 4_096;

/// The ids of the segments that one server was seen with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segments {
    ids: [u32; MOST],
    count: usize,
}

impl Segments {
    /// Adds what a living postmaster maps.
    pub(super) fn look(&mut self, proc: &Proc, postmaster: u32) {
        each_mapped(proc, postmaster, |id| {
            if !self.has(id) && self.count < MOST {
                self.ids[self.count] = id;
                self.count += 1;
            }
            false
        });
    }

    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a process maps one of them. One that is ending, and has given its memory back, does not.
    pub(super) fn are_mapped_by(&self, proc: &Proc, pid: u32) -> bool {
        self.count > 0 && each_mapped(proc, pid, |id| self.has(id))
    }

    fn has(&self, id: u32) -> bool {
        self.ids[..self.count].contains(&id)
    }
}

/// Calls for the id of each segment that a process maps, until the answer is true. Whether it was.
fn each_mapped(proc: &Proc, pid: u32, mut call: impl FnMut(u32) -> bool) -> bool {
    let Ok(file) = proc.file(pid, "/maps") else { return false };
    let mut buffer = [0_u8; BUFFER];
    let mut filled = 0;
    while let Ok(more @ 1..) = read(&file, &mut buffer[filled..]) {
        filled += more;
        let mut done = 0;
        while let Some(length) = buffer[done..filled].iter().position(|byte| *byte == b'\n') {
            if segment(&buffer[done..done + length]).is_some_and(&mut call) {
                return true;
            }
            done += length + 1;
        }
        if done == 0 && filled == BUFFER {
            // A line that is longer than the buffer is no segment's.
            done = filled;
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
    false
}

/// The id in a line `START-END PERMISSIONS OFFSET DEVICE INODE PATH`, if its path is that of a segment.
fn segment(line: &[u8]) -> Option<u32> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).skip(4);
    let (inode, path) = (words.next()?, words.next()?);
    path.starts_with(b"/SYSV").then(|| str::from_utf8(inode).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_a_segment_gives_an_id() {
        assert_eq!(segment(b"7f00-7f01 rw-s 00000000 00:01 32769    /SYSV0099001e (deleted)"), Some(32_769));
        assert_eq!(segment(b"7f00-7f01 rw-s 00000000 fe:00 78       /tmp/SYSV0099001e (deleted)"), None);
        assert_eq!(segment(b"7f08-7f09 rw-p 00000000 00:00 0 "), None);
        assert_eq!(segment(b""), None);
    }

    #[test]
    fn a_process_without_segments_maps_none() {
        let proc = Proc::open(std::path::Path::new("/")).unwrap();
        let mut segments = Segments::default();
        segments.look(&proc, std::process::id());
        assert!(segments.is_empty() && !segments.are_mapped_by(&proc, std::process::id()));
    }
}
