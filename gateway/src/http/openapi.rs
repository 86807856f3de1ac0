//! The description of REST, made from the handlers and served beside them.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, http::header, routing::get};
use serde::Serialize;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        self, Content, Ref, RefOr, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::Api;

/// Where the document is served.
const PATH: &str = "/api/v1/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "What a socket is wrong for. The socket is described by /api/v1/asyncapi.json."
    ),
    paths(health, document, super::asyncapi::document),
    components(schemas(ErrorAnswer)),
    modifiers(&Bearer)
)]
pub(super) struct Document;

/// A refusal.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    /// Stable, the same as on the socket.
    #[schema(example = "bad_request")]
    code: String,
    /// For people.
    message: String,
    /// Also the `x-request-id` of the answer, and in the log.
    request_id: String,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn refusals(wanted: &[(u16, &str)]) -> BTreeMap<String, RefOr<openapi::Response>> {
    wanted
        .iter()
        .map(|(status, why)| {
            let content = Content::new(Some(Ref::from_schema_name("ErrorAnswer")));
            let response = ResponseBuilder::new()
                .description(*why)
                .content("application/json", content)
                .build();
            (status.to_string(), response.into())
        })
        .collect()
}

const ANYBODY: [(u16, &str); 5] = [
    (400, "Something breaks a rule (`bad_request`)"),
    (413, "The body is too large (`too_large`)"),
    (429, "Too many requests (`rate_limited`)"),
    (500, "A defect of the server (`internal`)"),
    (
        503,
        "A part of the service is away, try again (`unavailable`)",
    ),
];
const UNKNOWN: (u16, &str) = (401, "No good token (`unauthorized`)");
const BANNED: (u16, &str) = (403, "Not allowed, or banned (`forbidden`)");

/// How any request may be refused.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        refusals(&ANYBODY)
    }
}

/// How a request with a token may be refused, too.
pub(super) struct BearerRefusals;

impl IntoResponses for BearerRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let mut all = ANYBODY.to_vec();
        all.extend([UNKNOWN, BANNED]);
        refusals(&all)
    }
}

/// Every check of this node with its latency.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "health",
    responses(
        (status = 200, description = "Takes sockets", body = Object),
        (status = 503, description = "Takes none, and why", body = Object),
    )
)]
#[expect(dead_code, reason = "served with the probes; described here")]
fn health() {}

/// This document.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
#[expect(dead_code, reason = "served by `served`; described here")]
fn document() {}

/// Serves the document; written once.
pub(super) fn served(document: &openapi::OpenApi) -> Router<Arc<Api>> {
    let text = document.to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the description of REST cannot be written");
        "{}".to_owned()
    });
    serving(PATH, text)
}

/// Serves a document that stays as it is.
pub(super) fn serving(path: &str, json: String) -> Router<Arc<Api>> {
    let text: Arc<str> = json.into();
    let answer = move || async move {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (headers, text.to_string())
    };
    Router::new().route(path, get(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes;

    /// Paths of a router as its debug text has them; axum gives no list.
    fn paths_of(router: &Router<Arc<Api>>) -> Vec<String> {
        let text = format!("{router:?}");
        let (mut paths, mut rest) = (Vec::new(), &*text);
        while let Some(start) = rest.find("\"/") {
            let path = &rest[start + 1..];
            let end = path.find('"').expect("a closed text");
            paths.push(path[..end].to_owned());
            rest = &path[end + 1..];
        }
        paths.retain(|path| path.starts_with("/api/v1"));
        paths.sort();
        paths.dedup();
        paths
    }

    #[test]
    fn every_route_is_in_the_document() {
        let (router, document) = routes().split_for_parts();
        let router = router
            .merge(served(&document))
            .merge(crate::http::asyncapi::served());
        let served = paths_of(&router);
        assert!(served.len() > 20, "{served:?}");
        for path in &served {
            assert!(document.paths.paths.contains_key(path), "{path}");
        }
        for path in document.paths.paths.keys() {
            let known = served.contains(path) || path == "/api/v1/health";
            assert!(known, "{path} is described, not served");
        }
    }

    /// Two types of one name would be one schema: that of whichever comes last.
    #[test]
    fn no_two_types_have_the_same_name() {
        let mut names = Vec::new();
        let mut folders = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/src/http").into()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir::<std::path::PathBuf>(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(path).unwrap();
                let derived = text.split("ToSchema)]\n").skip(1);
                names.extend(derived.filter_map(|rest| {
                    let line = rest.lines().find(|line| !line.starts_with('#'))?;
                    let words = line.split([' ', '<', '{', '(']);
                    let mut words = words.skip_while(|word| !["struct", "enum"].contains(word));
                    words.nth(1).map(str::to_owned)
                }));
            }
        }
        let count = names.len();
        assert!(count > 15, "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }

    #[test]
    fn every_operation_says_how_it_is_refused_and_who_may_ask() {
        let (_, document) = routes().split_for_parts();
        let document = serde_json::to_value(&document).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(
            document["components"]["securitySchemes"]["bearer"]["scheme"],
            "bearer"
        );
        let open = [
            "/api/v1/health",
            "/api/v1/openapi.json",
            "/api/v1/asyncapi.json",
        ];
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(operation["summary"].is_string(), "{name}");
                if open.contains(&&**path) {
                    continue;
                }
                let answers = operation["responses"].as_object().unwrap();
                assert!(
                    answers.keys().any(|status| status.starts_with('2')),
                    "{name}"
                );
                for status in ["400", "429", "500", "503"] {
                    let schema = &answers[status]["content"]["application/json"]["schema"];
                    assert_eq!(schema["$ref"], "#/components/schemas/ErrorAnswer", "{name}");
                }
                let is_open = ["/register", "/login", "/token"]
                    .iter()
                    .any(|end| path.ends_with(end));
                assert_eq!(operation["security"].is_array(), !is_open, "{name}");
                assert_eq!(
                    answers.contains_key("401"),
                    !path.ends_with("/register"),
                    "{name}"
                );
                if ["post", "put", "patch"].contains(&&**method)
                    && !path.contains("/auth/log")
                    && !["/refresh", "/archive", "/unarchive"]
                        .iter()
                        .any(|end| path.ends_with(end))
                    && !path.contains("/members/")
                {
                    assert!(operation["requestBody"].is_object(), "{name}");
                }
            }
        }
    }
}
