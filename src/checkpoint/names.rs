//! The names of checkpoints' files: the offset, and whether they are complete.
//!
//! A file gets the name of a complete one only when all of it is on the disk.

/// What a file of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A checkpoint that stands for this offset.
    Complete(i64),
    /// One that is being written, or was when its writer was stopped.
    Unfinished(i64),
}

const COMPLETE: &str = "ckpt";
const UNFINISHED: &str = "tmp";

impl Name {
    /// What a file with this name is; `None` if it is not ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (offset, extension) = name.split_once('.')?;
        let parsed = match (offset.parse().ok()?, extension) {
            (offset, COMPLETE) => Self::Complete(offset),
            (offset, UNFINISHED) => Self::Unfinished(offset),
            _ => return None,
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete(offset) => write!(f, "{offset}.{COMPLETE}"),
            Self::Unfinished(offset) => write!(f, "{offset}.{UNFINISHED}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_ours_are_taken_for_ours() {
        for name in [Name::Complete(0), Name::Unfinished(17), Name::Complete(i64::MAX)] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in
            ["", "17", ".ckpt", "17.", "+17.ckpt", "017.ckpt", "17.ckpt.tmp", "17.CKPT", "x.ckpt", "17.txt"]
        {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
