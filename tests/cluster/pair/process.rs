//! Processes, found by where they work.

use std::{fs, path::Path};

/// Sends a signal; a process that has ended meanwhile needs none.
pub(crate) fn send(pid: i32, name: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match name {
        "KILL" => Signal::KILL,
        "HUP" => Signal::HUP,
        "TERM" => Signal::TERM,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        other => panic!("{other}"),
    };
    let _ended_meanwhile = kill_process(Pid::from_raw(pid).expect("a process number"), signal);
}

/// Every process that works in a folder or was started with a path in it. Those that ended and that nobody collected
/// do not count.
pub(crate) fn of_folder(folder: &Path) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = folder.to_string_lossy().into_owned();
    let here = |pid: &i32| {
        let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cwd.is_ok_and(|cwd| cwd.starts_with(folder)) || String::from_utf8_lossy(&line).contains(&named)
    };
    pids.filter(|pid| *pid != std::process::id().cast_signed()).filter(here).collect()
}

/// A postmaster and its children, the postmaster first.
pub(crate) fn family(data_dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).expect("postmaster.pid");
    let pid: i32 = text.lines().next().expect("a line").parse().expect("a process number");
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
    std::iter::once(pid)
        .chain(children.split_whitespace().map(|pid| pid.parse().expect("a number")))
        .collect()
}

/// The child of a postmaster whose title holds these words, such as `walreceiver`.
pub(crate) fn child(data_dir: &Path, title: &str) -> i32 {
    let of_title = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(title)
    };
    let found = family(data_dir).into_iter().skip(1).find(of_title);
    found.unwrap_or_else(|| panic!("a process {title} of {}", data_dir.display()))
}
