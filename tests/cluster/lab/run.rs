//! Small programs of the system, run to their end.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs a program with words that hold no spaces, and returns what it printed.
///
/// # Errors
/// It failed; with what it said.
pub(crate) fn words(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().context("a program")?);
    command.args(words);
    command_output(command, None)
}

/// Runs a command, with `input` if there is some.
///
/// # Errors
/// As [`words`].
pub(crate) fn command_output(mut command: Command, input: Option<&str>) -> Result<String> {
    let shown = format!("{command:?}");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("start {shown}"))?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(input.as_bytes()).with_context(|| format!("write to {shown}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program in a network namespace. What is run is the program itself, not a parent of it.
#[must_use]
pub(crate) fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).args(["--", program]);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["PG", "LOCUM_", "ETCD"].iter().any(|beginning| name.starts_with(beginning)) {
            command.env_remove(name);
        }
    }
    command
}

/// Loads a set of packet filter rules in a namespace, at once or not at all.
///
/// # Errors
/// They are refused.
pub(crate) fn nft(namespace: &str, rules: &str) -> Result<()> {
    let mut command = inside(namespace, "nft");
    command.args(["-f", "-"]);
    command_output(command, Some(rules)).map(drop)
}
