//! WAL as the model sees it: commits in order. Only what a pair of logs can be asked; nobody writes or reads here.

/// The most commits a log can hold.
pub(crate) const LOG_SIZE: usize = 3;

/// WAL: commits in order, each a number from 1; 0 is an empty place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Log([u8; LOG_SIZE]);

impl Log {
    /// How many commits it holds: the flush position.
    pub(crate) fn len(self) -> u8 {
        self.0.iter().fold(0, |len, commit| len + u8::from(*commit != 0))
    }

    /// True if it holds the commit.
    pub(crate) fn holds(self, commit: u8) -> bool {
        self.0.contains(&commit)
    }

    /// What is at each place: a commit, or 0.
    pub(crate) fn commits(self) -> impl Iterator<Item = u8> {
        self.0.into_iter()
    }

    /// Appends a commit.
    pub(crate) fn append(&mut self, commit: u8) {
        self.0[usize::from(self.len())] = commit;
    }

    /// True if everything in it is at the same place in `longer`.
    pub(crate) fn begins(self, longer: Self) -> bool {
        self.0.iter().zip(longer.0).all(|(mine, theirs)| *mine == 0 || *mine == theirs)
    }

    /// The commit that a standby with this log receives next from `upstream`, if it can stream from it.
    pub(crate) fn next_from(self, upstream: Self) -> Option<u8> {
        let next = *upstream.0.get(usize::from(self.len()))?;
        (next != 0 && self.begins(upstream)).then_some(next)
    }

    /// What both have in common, from the beginning on.
    pub(crate) fn common(self, other: Self) -> Self {
        let mut common = Self::default();
        for (mine, theirs) in self.0.into_iter().zip(other.0) {
            if mine == 0 || mine != theirs {
                break;
            }
            common.append(mine);
        }
        common
    }

    /// The commits of `of` that it lacks.
    pub(crate) fn lacks(self, of: Commits) -> Commits {
        let mut missing = Commits::default();
        for commit in of.iter().filter(|commit| !self.holds(*commit)) {
            missing.insert(commit);
        }
        missing
    }
}

/// A set of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Commits(u8);

impl Commits {
    /// As a number below 256.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Adds a commit.
    pub(crate) fn insert(&mut self, commit: u8) {
        self.0 |= 1 << commit;
    }

    /// True if the commit is in it.
    pub(crate) fn contains(self, commit: u8) -> bool {
        self.0 & (1 << commit) != 0
    }

    /// True if it is empty.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are not in `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in either.
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (1..8).filter(move |commit| self.contains(*commit))
    }
}
