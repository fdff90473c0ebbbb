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
    use super::super::ROUTES;
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn it_describes_what_there_is() {
        let document = document();
        let methods = |methods: &Value| -> BTreeSet<String> {
            methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect()
        };
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, of)| (path.clone(), methods(of)))
            .collect();
        let there: BTreeSet<_> = ROUTES
            .iter()
            .map(|(path, methods)| {
                ((*path).to_owned(), methods.iter().map(|&method| method.to_owned()).collect())
            })
            .collect();
        assert_eq!(described, there);
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
