//! A new copy in the place of an old one.

use std::{fs, os::unix::fs::MetadataExt, sync::Mutex};

use locum::postgres::{CloneError, CloneFrom, OLD_SUFFIX};

use crate::fixture::{Node, Pair, Small};

fn from(node: &Node, slot: Option<&str>) -> CloneFrom {
    CloneFrom { source: node.source(), slot: slot.map(str::to_owned), max_rate: None }
}

fn beside(node: &Node, suffix: &str) -> std::path::PathBuf {
    node.folder().join(format!("data{suffix}"))
}

#[tokio::test]
async fn a_clone_takes_the_place_of_the_old_directory_which_is_put_aside() {
    let pair = Pair::new().await;
    let standby = &pair.standby;
    standby.instance.set(&[("work_mem", "7MB")]).await.unwrap();
    let again = from(&pair.primary, Some(standby.name));
    let running = standby.instance.clone_upstream(&again, |_| ()).await;
    assert!(matches!(running, Err(CloneError::Failed(_))), "{running:?}");

    for round in 0..2 {
        standby.instance.kill_all(None).await.unwrap();
        fs::write(standby.config.data_dir.join("mark"), round.to_string()).unwrap();
        let said = Mutex::new(Vec::new());
        let note = |line: &str| said.lock().unwrap().push(line.to_owned());
        standby.instance.clone_upstream(&again, note).await.unwrap();
        assert!(said.lock().unwrap().iter().any(|line| line.contains('%')), "{said:?}");
        // The old one is whole, and of the right round; the new one is the owner's alone.
        assert_eq!(fs::read_to_string(beside(standby, OLD_SUFFIX).join("mark")).unwrap(), round.to_string());
        assert!(!standby.config.data_dir.join("mark").exists() && !beside(standby, ".locum-new").exists());
        let meta = fs::metadata(&standby.config.data_dir).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (standby.instance.owner().uid, 0o700));
        assert_eq!(standby.instance.get("work_mem").await.unwrap().as_deref(), Some("7MB"));
        assert!(standby.instance.has_standby_signal().await.unwrap());
        standby.start().await;
        pair.streams().await;
    }
}

#[tokio::test]
async fn a_clone_keeps_to_its_rate_and_tells_how_far_it_is() {
    const MOST: u64 = 4 << 20;
    let pair = Pair::new().await;
    pair.standby.instance.kill_all(None).await.unwrap();
    let said = Mutex::new(Vec::new());
    let note = |line: &str| said.lock().unwrap().push(line.to_owned());
    let slowly = CloneFrom { max_rate: Some(MOST), ..from(&pair.primary, Some(pair.standby.name)) };
    let began = std::time::Instant::now();
    pair.standby.instance.clone_upstream(&slowly, note).await.unwrap();
    let took = began.elapsed();
    let said = said.into_inner().unwrap();
    // An empty cluster is some 22 MB, and the first eighth of a second is free.
    assert!(took.as_secs_f64() > 22e6 / MOST as f64 * 0.7, "{took:?}: {said:?}");
    let told = said
        .iter()
        .filter(|line| line.contains(" % of ") && line.contains("MB/s") && line.ends_with(" left"));
    assert!(told.count() >= 3, "{said:?}");
    pair.standby.start().await;
    pair.streams().await;
}

#[tokio::test]
async fn an_upstream_with_tablespaces_is_refused_before_anything_is_touched() {
    let pair = Pair::new().await;
    pair.standby.instance.kill_all(None).await.unwrap();
    let folder = pair.primary.folder().join("space");
    fs::create_dir(&folder).unwrap();
    let owner = pair.primary.instance.owner();
    let _only_root_can = std::os::unix::fs::chown(&folder, Some(owner.uid), Some(owner.gid));
    pair.primary.ask(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", folder.display())).await;
    let refused = pair.standby.instance.clone_upstream(&from(&pair.primary, None), |_| ()).await;
    assert!(matches!(&refused, Err(CloneError::Refused(why)) if why.contains("elsewhere")), "{refused:?}");
    assert!(!beside(&pair.standby, ".locum-new").exists());
    pair.standby.start().await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_what_was_there() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let Some(small) = Small::mount(folder.path(), 60) else { return };
    let node = Node::in_folder("alpha", tempfile::tempdir_in(small.path()).unwrap());
    let upstream = Node::new("gamma");
    for node in [&node, &upstream] {
        node.init(16).await;
        node.start().await;
    }
    upstream.ask("CREATE ROLE replicator LOGIN REPLICATION").await;
    node.instance.kill_all(None).await.unwrap();
    let full = node.instance.clone_upstream(&from(&upstream, None), |_| ()).await;
    assert!(matches!(full, Err(CloneError::DiskFull(_))), "{full:?}");
    assert!(!beside(&node, ".locum-new").exists() && !beside(&node, OLD_SUFFIX).exists());
    node.start().await;
}
