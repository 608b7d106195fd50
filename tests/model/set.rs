//! The nodes, and sets of them. Plain values.

use std::fmt;

/// One of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeId {
    /// The primary at the beginning.
    A,
    /// A standby at the beginning.
    B,
    /// The other standby, in a trio.
    C,
}

impl NodeId {
    /// Whoever there can be.
    pub(crate) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];
}

/// A set of nodes: a sync set (ANY 1 of them), or whoever may be promoted.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Set(u8);

impl Set {
    /// Nobody.
    pub(crate) const EMPTY: Self = Self(0);
    /// A alone.
    pub(crate) const A: Self = Self(1 << NodeId::A as u8);
    /// B alone.
    pub(crate) const B: Self = Self(1 << NodeId::B as u8);
    /// C alone.
    pub(crate) const C: Self = Self(1 << NodeId::C as u8);
    /// B and C.
    pub(crate) const BC: Self = Self(Self::B.0 | Self::C.0);

    /// Everybody.
    pub(crate) const ABC: Self = Self(Self::BC.0 | 1 << NodeId::A as u8);

    /// One node.
    pub(crate) const fn of(node: NodeId) -> Self {
        Self(1 << node as u8)
    }

    /// True if nobody is in it.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if the node is in it.
    pub(crate) const fn contains(self, node: NodeId) -> bool {
        self.0 & Self::of(node).0 != 0
    }

    /// With the node.
    pub(crate) const fn with(self, node: NodeId) -> Self {
        Self(self.0 | Self::of(node).0)
    }

    /// Without the node.
    pub(crate) const fn without(self, node: NodeId) -> Self {
        Self(self.0 & !Self::of(node).0)
    }

    /// Whoever is in either.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whoever is in both.
    pub(crate) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if everybody in it is in `other`.
    pub(crate) const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// As a number below 8.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = NodeId> {
        NodeId::ALL.into_iter().filter(move |node| self.contains(*node))
    }

    /// Every set that can be made of these.
    pub(crate) fn subsets(self) -> impl Iterator<Item = Self> {
        (0..8).map(Self).filter(move |set| set.is_within(self))
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|node| format!("{node:?}")).collect();
        write!(f, "{{{}}}", names.join(","))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
