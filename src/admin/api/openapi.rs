//! `GET /api/openapi.json`: the API's description for programs.

use axum::http::header;
use axum::response::IntoResponse;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// Every path with every method, as the hint for lost callers has them.
    #[test]
    fn it_describes_what_there_is() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let hinted: BTreeSet<String> = super::super::PATHS
            .trim_start_matches("there is: ")
            .split(", ")
            .flat_map(|group| {
                let (path, methods) = group
                    .split(' ')
                    .collect::<Vec<_>>()
                    .split_last()
                    .map(|(path, methods)| (path.to_string(), methods.to_vec()))
                    .unwrap();
                methods.into_iter().map(move |method| format!("{method} {path}")).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(described, hinted);
    }

    #[test]
    fn what_it_refers_to_is_there() {
        fn check(document: &Value, part: &Value) {
            match part {
                Value::Object(object) => {
                    if let Some(Value::String(reference)) = object.get("$ref") {
                        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                    }
                    object.values().for_each(|part| check(document, part));
                }
                Value::Array(parts) => parts.iter().for_each(|part| check(document, part)),
                _ => {}
            }
        }
        let document = document();
        check(&document, &document);
    }
}
