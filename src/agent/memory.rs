//! What a state directory says of the node it belongs to, for commands that run while no member does.

use std::path::Path;

use super::{
    AgentError,
    promise::{Promise, PromiseFile},
};
use crate::model::{NodeId, Stamp, SystemId, Unfinished};

/// What a promise file remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whose it is.
    pub node: NodeId,
    /// Whose data.
    pub system: Option<SystemId>,
    /// The highest stamp taken: Locum has managed this node.
    pub promise: Option<Stamp>,
    /// It waits for its first clone: there never was a data directory.
    pub awaits_clone: bool,
}

/// Reads the promise file of a state directory, without locking it. None: there is none. Blocking.
///
/// # Errors
/// [`AgentError::PromiseUnreadable`]
pub fn memory(state_dir: &Path) -> Result<Option<Memory>, AgentError> {
    Ok(Promise::read(state_dir)?.map(|held| Memory {
        awaits_clone: held.unfinished == Some(Unfinished::Clone) && held.system.is_none(),
        node: held.node,
        system: held.system,
        promise: held.promise,
    }))
}

/// Remembers for a node without a data directory that it is to be cloned as soon as there is a primary. Only a person
/// says so: a node that merely lost its directory must not be taken for a new one. Blocking.
///
/// # Errors
/// [`AgentError`]: a member runs there, or the directory belongs to another node.
pub fn await_first_clone(state_dir: &Path, node: &NodeId) -> Result<(), AgentError> {
    let mut file = PromiseFile::open(state_dir, node)?;
    let next = Promise { unfinished: Some(Unfinished::Clone), ..file.held().clone() };
    file.keep(next).map_err(|error| AgentError::StateDir {
        path: state_dir.to_owned(),
        what: "write the promise file",
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_awaits_its_first_clone_has_promised_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let node = NodeId::new("a").expect("good name");
        assert_eq!(memory(dir.path()).expect("readable"), None);
        await_first_clone(dir.path(), &node).expect("written");
        let expected = Memory { node, system: None, promise: None, awaits_clone: true };
        assert_eq!(memory(dir.path()).expect("readable"), Some(expected));
    }
}
