//! Faults planted on purpose: each must be found within a few seeds, or the simulation proves nothing.
//! They act where `has(Planted::…)` is asked, in `client.rs` and `run.rs`. Faults of the code itself: `scripts/canaries`.

macro_rules! planted {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What is wrong with the scheduler, or with what it believes of Kafka.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $($(#[$doc])+ $name,)+
        }

        pub const ALL: &[Planted] = &[$(Planted::$name,)+];
    };
}

planted! {
    /// An owner takes a partition over without refusing what its predecessor still sends.
    NoFence,
    /// How far to load is asked before the predecessor is fenced.
    TargetBeforeFence,
    /// A partition goes live at the last stable offset, although a foreign transaction is open.
    LiveAtLastStable,
    /// A transaction commits without reading the log up to its own records.
    Unverified,
    /// Own records with others between them are taken for contiguous.
    Torn,
    /// Tombstones are written outside the transaction.
    TombstoneOutside,
    /// Tombstones go to the partition that their key's hash names.
    TombstoneByHash,
    /// What was loaded is kept after a revocation and used again.
    StateKept,
    /// The shard of an earlier assignment reads on beside the new one.
    OldReader,
    /// Where the log no longer holds the position, reading goes on at its beginning as if nothing were.
    SilentReset,
    /// A producer whose commit was asked for twice is used again.
    LateCommitIgnored,
}
