//! Which names topics may have.

/// Whether Kafka allows `name` for a topic.
#[must_use]
pub fn is_legal_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules_for_names_hold() {
        for (name, legal) in [
            ("a.b_c-D9", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a b", false),
            ("é", false),
            ("a/b", false),
        ] {
            assert_eq!(is_legal_topic_name(name), legal, "{name:?}");
        }
        assert!(is_legal_topic_name(&"x".repeat(249)));
        assert!(!is_legal_topic_name(&"x".repeat(250)));
    }
}
