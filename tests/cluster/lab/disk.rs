//! File systems of their own for PostgreSQL: small enough to be filled, and frozen without freezing the machine.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::{place, plan::Plan, run};

/// What fills a disk. Named so that nobody takes it for data.
const FILLER: &str = "filler-of-the-laboratory";

fn mounted(path: &std::path::Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = path.to_string_lossy();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(path.as_ref()))
}

fn mounts(plan: &Plan) -> Vec<PathBuf> {
    plan.servers().map(|host| plan.disk_of(&host.name)).filter(|disk| mounted(disk)).collect()
}

/// Makes them, where they are wished for.
///
/// # Errors
/// There is no loop device, or no `mkfs.ext4`.
pub(crate) fn make(plan: &Plan) -> Result<()> {
    let Some(mb) = plan.wish.disk_mb else { return Ok(()) };
    for host in plan.servers() {
        let image = plan.folder_of(&host.name).join("disk.image");
        let file = fs::File::create(&image).context("make an image")?;
        file.set_len(u64::from(mb) << 20).context("make an image")?;
        let (image, disk) = (image.display(), plan.disk_of(&host.name));
        // No blocks are kept for root: what is full for PostgreSQL is full.
        run::words(&format!("mkfs.ext4 -q -m 0 {image}"))?;
        run::words(&format!("mount -o loop {image} {}", disk.display()))?;
        place::give_to_postgres(&disk)?;
    }
    Ok(())
}

/// Unmounts them.
///
/// # Errors
/// One is still in use.
pub(crate) fn remove(plan: &Plan) -> Result<()> {
    mounts(plan).iter().try_for_each(|disk| run::words(&format!("umount {}", disk.display())).map(drop))
}

/// Lets no write to a host's disk get through until [`thaw`].
///
/// # Errors
/// It has no disk of its own, or is frozen.
pub(crate) fn freeze(plan: &Plan, host: &str) -> Result<()> {
    run::words(&format!("fsfreeze -f {}", own(plan, host)?.display())).map(drop)
}

/// Lets them through again.
///
/// # Errors
/// It is not frozen.
pub(crate) fn thaw(plan: &Plan, host: &str) -> Result<()> {
    run::words(&format!("fsfreeze -u {}", own(plan, host)?.display())).map(drop)
}

/// Thaws whatever is frozen.
///
/// # Errors
/// One could not be thawed.
pub(crate) fn thaw_all(plan: &Plan) -> Result<()> {
    for disk in mounts(plan) {
        // The only way to know whether it is frozen; one that is not refuses.
        let mut command = Command::new("fsfreeze");
        let _it_was_not_frozen = command.arg("-u").arg(&disk).output().context("run fsfreeze")?;
    }
    Ok(())
}

fn own(plan: &Plan, host: &str) -> Result<PathBuf> {
    let disk = plan.disk_of(host);
    anyhow::ensure!(mounted(&disk), "{host} has no disk of its own: build the laboratory with disks");
    Ok(disk)
}

/// Leaves not one free byte on a host's disk.
///
/// # Errors
/// It has no disk of its own.
pub(crate) fn fill(plan: &Plan, host: &str) -> Result<()> {
    let disk = own(plan, host)?;
    let filler = disk.join(FILLER);
    // Twice: blocks that are freed meanwhile are taken, too.
    for _ in 0..2 {
        let rest = run::words(&format!("stat -f -c %f*%S {}", disk.display()))?;
        let (blocks, size) = rest.trim().split_once('*').context("blocks and their size")?;
        let rest = blocks.parse::<u64>()?.saturating_mul(size.parse()?);
        let there = fs::metadata(&filler).map_or(0, |meta| meta.len());
        if rest > 0 {
            let mut command = Command::new("fallocate");
            command.arg("-l").arg((there + rest).to_string()).arg(&filler);
            // What is lacking for its own metadata is taken by the next line.
            let _too_much = command.output().context("run fallocate")?;
        }
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "bs=4096", "oflag=append", "conv=notrunc"]);
        let _it_ends_when_the_disk_is_full =
            command.arg(format!("of={}", filler.display())).output().context("run dd")?;
    }
    Ok(())
}

/// Frees it again.
///
/// # Errors
/// The file system refuses.
pub(crate) fn free(plan: &Plan, host: &str) -> Result<()> {
    match fs::remove_file(plan.disk_of(host).join(FILLER)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("remove the filler"),
        _ => Ok(()),
    }
}
