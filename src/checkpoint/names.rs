//! The names of checkpoints' files: which is the newest, the offset, and whether they are complete.
//!
//! A file gets the name of a complete one only when all of it is on the disk.
//!
//! The newest is the one with the highest generation, which is counted in the names themselves. Neither the offset nor a clock
//! would tell: a topic that was made anew or cut begins again at lower offsets, and clocks are set.

/// What a file of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// One more than that of any before it in its directory.
    pub(super) generation: u64,
    /// What the checkpoint stands for.
    pub(super) offset: i64,
    /// Or it is being written, or was when its writer was stopped.
    pub(super) is_complete: bool,
}

const COMPLETE: &str = "ckpt";
const UNFINISHED: &str = "tmp";

impl Name {
    /// What a file with this name is; `None` if it is not ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.split_once('.')?;
        let (generation, offset) = stem.split_once('-')?;
        let is_complete = match extension {
            COMPLETE => true,
            UNFINISHED => false,
            _ => return None,
        };
        let parsed = Self { generation: generation.parse().ok()?, offset: offset.parse().ok()?, is_complete };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The generation of what is begun in a directory that has these names.
    pub(super) fn next_generation(names: &[String]) -> u64 {
        let generations = names.iter().filter_map(|name| Some(Self::parse(name)?.generation));
        generations.max().unwrap_or(0).saturating_add(1)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { generation, offset, is_complete } = self;
        write!(f, "{generation}-{offset}.{}", if *is_complete { COMPLETE } else { UNFINISHED })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_ours_are_taken_for_ours() {
        for (generation, offset) in [(1, 0), (2, 17), (u64::MAX, i64::MAX)] {
            for is_complete in [true, false] {
                let name = Name { generation, offset, is_complete };
                assert_eq!(Name::parse(&name.to_string()), Some(name));
            }
        }
        for other in [
            "",
            "1-17",
            ".ckpt",
            "-.ckpt",
            "1-.ckpt",
            "-17.ckpt",
            "17.ckpt",
            "1-17.",
            "1-+17.ckpt",
            "1-017.ckpt",
            "01-17.ckpt",
            "1-17.ckpt.tmp",
            "1-17.CKPT",
            "1-x.ckpt",
            "1-17.txt",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn generations_count_on_whatever_the_file_is() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(Name::next_generation(&[]), 1);
        assert_eq!(Name::next_generation(&names(&["9-1.ckpt", "10-0.tmp", "99.ckpt", "x"])), 11);
    }
}
