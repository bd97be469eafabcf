//! Nova as Rhizome uses it: routes, microversions, tokens and error envelopes.
//!
//! What a server is lives in `cloud.rs`; how it is created in `create.rs`, listed in
//! `list.rs`, written in `wire.rs`, and acted on in `actions.rs`. Texts and codes are those
//! seen on Nova 26.2 (Zed).

mod actions;
mod create;
mod groups;
mod list;
mod wire;

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::keystone::live_token;
use crate::world::World;

pub(crate) use wire::limits;

/// Lowest microversion of v2.1, the minor number.
const MIN_MICROVERSION: u32 = 1;

/// One request on its way: what its microversion and its token allow.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    /// The minor number of its microversion.
    pub(crate) minor: u32,
    pub(crate) admin: bool,
}

/// Answers a request to Nova; its path begins with `/compute`.
pub(crate) fn handle(world: &mut World, request: &Request) -> Answer {
    let path = request
        .path
        .strip_prefix("/compute")
        .unwrap_or_default()
        .trim_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    let max = world.options.max_microversion;
    match segments.as_slice() {
        [""] => {
            return Answer::json(
                200,
                json!({"versions": [wire::version(request, "v2.0", max), wire::version(request, "v2.1", max)]}),
            );
        }
        ["v2.1"] => {
            return versioned(
                Answer::json(200, json!({"version": wire::own_version(request, max)})),
                "2.1",
            );
        }
        _ => {}
    }
    let admin = match authenticate(world, request) {
        Ok(admin) => admin,
        Err(answer) => return *answer,
    };
    let minor = match microversion(request, max) {
        Ok(minor) => minor,
        Err(answer) => return *answer,
    };
    let call = Call {
        request,
        minor,
        admin,
    };
    match route(world, &call, segments.get(1..).unwrap_or_default()) {
        Some(answer) => versioned(answer, &format!("2.{minor}")),
        None => no_route(),
    }
}

/// The answer with the microversion that it speaks.
fn versioned(answer: Answer, version: &str) -> Answer {
    answer
        .with_header("openstack-api-version", format!("compute {version}"))
        .with_header("x-openstack-nova-api-version", version)
        .with_header(
            "vary",
            "OpenStack-API-Version, X-OpenStack-Nova-API-Version",
        )
}

/// The 404 of the router, which is not in Nova's envelope.
fn no_route() -> Answer {
    Answer::json(
        404,
        json!({"code": "404 Not Found", "title": "Not Found",
            "message": "The resource could not be found.<br /><br />\n\n\n"}),
    )
}

/// The answer of what there is at a path; none if there is nothing.
fn route(world: &mut World, call: &Call<'_>, segments: &[&str]) -> Option<Answer> {
    Some(match (call.request.method.as_str(), segments) {
        ("GET", ["servers"]) => list::servers(world, call, false),
        ("GET", ["servers", "detail"]) => list::servers(world, call, true),
        ("POST", ["servers"]) => create::server(world, call),
        ("GET", ["servers", id]) => list::server(world, call, id),
        ("PUT", ["servers", id]) => actions::update(world, call, id),
        ("DELETE", ["servers", id]) => actions::delete(world, call, id),
        ("POST", ["servers", id, "action"]) => actions::act(world, call, id),
        (_, ["servers", id, "metadata", rest @ ..]) => actions::metadata(world, call, id, rest),
        (_, ["servers", id, "tags", rest @ ..]) => actions::tags(world, call, id, rest),
        ("GET", ["limits"]) => limits(world),
        (_, ["os-server-groups", rest @ ..]) => groups::handle(world, call, rest),
        ("GET", ["flavors", rest @ ..]) => wire::flavors(world, call, rest),
        ("GET", ["images", rest @ ..]) => wire::images(world, call, rest),
        ("GET", ["os-services"]) if !call.admin => error(
            403,
            "Policy doesn't allow os_compute_api:os-services:list to be performed.",
        ),
        _ => return None,
    })
}

/// Nova's envelope: one key that names the class, then code and message.
pub(crate) fn envelope(status: u16, message: &str) -> Value {
    let class = match status {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    json!({class: {"code": status, "message": message}})
}

/// An error in Nova's envelope.
pub(crate) fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, envelope(status, message)).with_type("application/json; charset=UTF-8")
}

pub(crate) fn not_found(id: &str) -> Answer {
    error(404, &format!("Instance {id} could not be found."))
}

/// The body of the 401 that keystonemiddleware gives in Nova's stead.
pub(crate) fn unauthorized_body() -> Value {
    json!({"error": {"code": 401, "title": "Unauthorized",
        "message": "The request you have made requires authentication."}})
}

/// Whether the token is an admin's; or the 401 (503 while Keystone is away and Nova has not
/// seen the token before).
pub(crate) fn authenticate(world: &mut World, request: &Request) -> Result<bool, Box<Answer>> {
    let given = request.header("x-auth-token").unwrap_or_default();
    let refused = || {
        Box::new(Answer::json(401, unauthorized_body()).with_header(
            "www-authenticate",
            format!("Keystone uri=\"{}/v3\"", request.base),
        ))
    };
    if given.is_empty() {
        return Err(refused());
    }
    let known = world.cloud.tokens.get(given);
    if world.keystone_away && !known.is_some_and(|token| token.seen_by_nova) {
        return Err(Box::new(error(
            503,
            "The server is currently unavailable. Please try again at a later time.",
        )));
    }
    let token = live_token(world, given)
        .filter(|token| token.scoped)
        .ok_or_else(refused)?;
    let admin = token.admin;
    if let Some(token) = world.cloud.tokens.get_mut(given) {
        token.seen_by_nova = true;
    }
    Ok(admin)
}

/// The minor number of the microversion that is asked for: 1 without a header.
fn microversion(request: &Request, max: u32) -> Result<u32, Box<Answer>> {
    let asked = request
        .header("openstack-api-version")
        .and_then(|value| value.trim().strip_prefix("compute "))
        .or_else(|| request.header("x-openstack-nova-api-version"))
        .map(str::trim);
    let asked = match asked {
        None => return Ok(MIN_MICROVERSION),
        Some("latest") => return Ok(max),
        Some(asked) => asked,
    };
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let parts = asked
        .split_once('.')
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    match parts {
        None => Err(Box::new(error(
            400,
            &format!(
                "API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum."
            ),
        ))),
        Some((2, minor)) if (MIN_MICROVERSION..=max).contains(&minor) => Ok(minor),
        // Told in the version that was asked for, although it is none.
        Some(_) => Err(Box::new(versioned(
            error(
                406,
                &format!(
                    "Version {asked} is not supported by the API. Minimum is 2.{MIN_MICROVERSION} and maximum is 2.{max}."
                ),
            ),
            asked,
        ))),
    }
}
