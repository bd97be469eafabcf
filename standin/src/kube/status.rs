//! The API server's `Status` objects: how it says no.

use serde_json::{Value, json};

use super::kinds::Kind;
use crate::http::Answer;
use crate::json::set;

/// The body of a failure.
pub(crate) fn body(code: u16, reason: &str, message: &str) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code,
    });
    // Seen: an eviction under two budgets is a 500 without a reason.
    if !reason.is_empty() {
        set(&mut status, "/reason", reason);
    }
    status
}

/// A failure.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Answer {
    Answer::json(code, body(code, reason, message))
}

/// A failure about one object, which the details name.
pub(crate) fn about(code: u16, reason: &str, message: &str, kind: Kind, name: &str) -> Answer {
    let info = kind.info();
    let mut status = body(code, reason, message);
    let mut details = json!({"kind": info.plural});
    if !name.is_empty() {
        set(&mut details, "/name", name);
    }
    if !info.group.is_empty() {
        set(&mut details, "/group", info.group);
    }
    set(&mut status, "/details", details);
    Answer::json(code, status)
}

/// 401: the same for every cause.
pub(crate) fn unauthorized() -> Answer {
    failure(401, "Unauthorized", "Unauthorized")
}

/// 404 about an object.
pub(crate) fn not_found(kind: Kind, name: &str) -> Answer {
    let message = format!("{} \"{name}\" not found", kind.info().qualified());
    about(404, "NotFound", &message, kind, name)
}

/// 404 about a path.
pub(crate) fn no_such_path() -> Answer {
    with_details(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

/// 404 about a group of kinds: the server's own multiplexer says it, in its own way.
pub(crate) fn no_such_group() -> Answer {
    Answer::text(404, "404 page not found\n")
}

/// A failure about no object, whose details are there and empty.
pub(crate) fn with_details(code: u16, reason: &str, message: &str) -> Answer {
    let mut status = body(code, reason, message);
    set(&mut status, "/details", json!({}));
    Answer::json(code, status)
}

/// 409: the object was changed in between.
pub(crate) fn modified(kind: Kind, name: &str) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to the latest version and try again",
        kind.info().qualified()
    );
    about(409, "Conflict", &message, kind, name)
}

/// 409: a precondition named another object of that name.
pub(crate) fn precondition(
    kind: Kind,
    name: &str,
    field: &str,
    wanted: &str,
    found: &str,
) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). The object might have been deleted and then recreated",
        kind.info().name
    );
    let mut answer = about(409, "Conflict", &message, kind, name);
    if let crate::http::Content::Json(status) = &mut answer.content {
        set(status, "/details/kind", kind.info().name);
    }
    answer
}

/// 422: a field may not be so.
pub(crate) fn invalid(kind: Kind, name: &str, field: &str, cause: &str, why: &str) -> Answer {
    let info = kind.info();
    let qualified = if info.group.is_empty() {
        info.name.to_owned()
    } else {
        format!("{}.{}", info.name, info.group)
    };
    let message = format!("{qualified} \"{name}\" is invalid: {field}: {why}");
    let mut answer = about(422, "Invalid", &message, kind, name);
    if let crate::http::Content::Json(status) = &mut answer.content {
        set(status, "/details/kind", info.name);
        set(
            status,
            "/details/causes",
            json!([{"reason": cause, "message": why, "field": field}]),
        );
    }
    answer
}

/// The Status of success that deletes and evictions answer.
pub(crate) fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}
