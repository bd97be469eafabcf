//! Keystone v3 as far as a client of Nova needs it: versions, tokens, catalogue.
//!
//! Bodies as captured from Keystone 30 (passwords, application credentials, 401s and all).

use serde_json::{Value, json};

use crate::cloud::Token;
use crate::http::{Answer, Request};
use crate::json::{items, text};
use crate::world::{World, micros};

/// The text of each refused login and each token that is not accepted: it never says why.
const REFUSED: &str = "The request you have made requires authentication.";

/// The text of a body that is no JSON.
const MALFORMED: &str = "Expecting to find valid JSON in request body. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.";

/// Answers a request to Keystone.
pub(crate) fn handle(world: &mut World, request: &Request) -> Answer {
    let path = request.path.trim_end_matches('/');
    let method = request.method.as_str();
    let answer = match (method, path) {
        ("GET", "") => Answer::json(300, json!({"versions": {"values": [version(request)]}}))
            .with_header("location", format!("{}/v3/", request.base)),
        ("GET", "/v3") => Answer::json(200, json!({"version": version(request)})),
        ("POST", "/v3/auth/tokens") => log_in(world, request),
        ("GET", "/v3/auth/tokens") => validate(world, request),
        ("DELETE", "/v3/auth/tokens") => revoke(world, request),
        ("GET", "/v3/auth/catalog") => match token_of(world, request) {
            Some(_) => Answer::json(200, json!({"catalog": catalog(world, request)})),
            None => unauthorized(request, REFUSED),
        },
        (_, path) if path.starts_with("/v3/") && token_of(world, request).is_none() => {
            unauthorized(request, REFUSED)
        }
        _ => error(404, "Not Found", "Could not find the requested resource."),
    };
    answer.with_header("vary", "X-Auth-Token")
}

fn version(request: &Request) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/v3/", request.base)}],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.identity-v3+json",
        }],
    })
}

fn error(status: u16, title: &str, message: &str) -> Answer {
    Answer::json(
        status,
        json!({"error": {"code": status, "message": message, "title": title}}),
    )
}

fn unauthorized(request: &Request, message: &str) -> Answer {
    error(401, "Unauthorized", message).with_header(
        "www-authenticate",
        format!("Keystone uri=\"{}/v3\"", request.base),
    )
}

/// The live token in `X-Auth-Token`.
fn token_of<'a>(world: &'a World, request: &Request) -> Option<&'a Token> {
    live_token(world, request.header("x-auth-token")?)
}

/// The token, unless it has expired or its credential is gone.
pub(crate) fn live_token<'a>(world: &'a World, token: &str) -> Option<&'a Token> {
    world
        .cloud
        .tokens
        .get(token)
        .filter(|token| token.expires > world.now)
        .filter(|token| !token.by_credential || world.cloud.application_credential_alive)
}

/// Who logged in, and how.
struct Identity {
    admin: bool,
    by_credential: bool,
    scoped: bool,
}

fn log_in(world: &mut World, request: &Request) -> Answer {
    let Some(body) = request.json() else {
        return error(400, "Bad Request", MALFORMED);
    };
    if body.pointer("/auth/identity").is_none() {
        return error(400, "Bad Request", "'identity' is a required property");
    }
    match identify(world, request, &body) {
        Ok(identity) => issue(world, request, &identity),
        Err(answer) => *answer,
    }
}

fn identify(world: &World, request: &Request, body: &Value) -> Result<Identity, Box<Answer>> {
    let methods: Vec<&str> = items(body, "/auth/identity/methods")
        .filter_map(Value::as_str)
        .collect();
    match methods.as_slice() {
        ["application_credential"] => with_credential(world, request, body),
        ["password"] => with_password(world, request, body),
        _ => Err(Box::new(unauthorized(request, REFUSED))),
    }
}

fn with_credential(
    world: &World,
    request: &Request,
    body: &Value,
) -> Result<Identity, Box<Answer>> {
    let credentials = &world.options.credentials;
    let given = |name: &str| {
        text(
            body,
            &format!("/auth/identity/application_credential/{name}"),
        )
    };
    if given("id") != Some(credentials.application_credential_id.as_str()) {
        return Err(Box::new(error(
            404,
            "Not Found",
            &format!(
                "Could not find Application Credential: {}.",
                given("id").unwrap_or_default()
            ),
        )));
    }
    // Seen: once the credential is deleted Keystone answers 404 here, not 401.
    if !world.cloud.application_credential_alive {
        return Err(Box::new(error(
            404,
            "Not Found",
            &format!(
                "Could not find Application Credential: {}.",
                credentials.application_credential_id
            ),
        )));
    }
    if given("secret") != Some(credentials.application_credential_secret.as_str()) {
        return Err(Box::new(unauthorized(request, REFUSED)));
    }
    if body.pointer("/auth/scope").is_some() {
        let message = "Error authenticating with application credential: \
            Application credentials cannot request a scope.";
        let mut answer = unauthorized(request, message);
        if let crate::http::Content::Json(body) = &mut answer.content {
            crate::json::set(body, "/error/identity", json!({}));
        }
        return Err(Box::new(answer));
    }
    Ok(Identity {
        admin: false,
        by_credential: true,
        scoped: true,
    })
}

fn with_password(world: &World, request: &Request, body: &Value) -> Result<Identity, Box<Answer>> {
    let credentials = &world.options.credentials;
    let refused = || Box::new(unauthorized(request, REFUSED));
    let user = body
        .pointer("/auth/identity/password/user")
        .ok_or_else(refused)?;
    let (name, id, password) = (
        text(user, "/name"),
        text(user, "/id"),
        text(user, "/password"),
    );
    let domain_is_ours = |domain: &Value| {
        text(domain, "/name") == Some(credentials.domain.as_str())
            || text(domain, "/id") == Some("default")
    };
    // A name means nothing without its domain; an id does.
    if name.is_some() && !user.pointer("/domain").is_some_and(domain_is_ours) {
        return Err(refused());
    }
    let is = |wanted: &str, wanted_id: &str| name == Some(wanted) || id == Some(wanted_id);
    let admin = if is(&credentials.username, &world.cloud.user_id)
        && password == Some(credentials.password.as_str())
    {
        false
    } else if is(&credentials.admin_username, &world.cloud.admin_id)
        && password == Some(credentials.admin_password.as_str())
    {
        true
    } else {
        return Err(refused());
    };
    let scope = body.pointer("/auth/scope/project");
    let scope_is_ours = scope.is_none_or(|project| {
        text(project, "/id") == Some(world.cloud.project_id.as_str())
            || (text(project, "/name") == Some(credentials.project.as_str())
                && project.pointer("/domain").is_some_and(domain_is_ours))
    });
    if !scope_is_ours {
        return Err(refused());
    }
    Ok(Identity {
        admin,
        by_credential: false,
        scoped: scope.is_some(),
    })
}

fn issue(world: &mut World, request: &Request, identity: &Identity) -> Answer {
    let token = Token {
        expires: world.now.plus(world.options.token_ttl),
        admin: identity.admin,
        scoped: identity.scoped,
        by_credential: identity.by_credential,
        seen_by_nova: false,
    };
    // The looks and the length of a Fernet token.
    let length = if identity.by_credential { 204 } else { 183 };
    let mut subject = "gAAAAAB".to_owned();
    while subject.len() < length {
        subject.push_str(&world.ids.hex());
    }
    subject.truncate(length);
    let body = describe(world, request, &token);
    // Old tokens are swept now and then there; here at each login, which bounds the map.
    let now = world.now;
    world.cloud.tokens.retain(|_, token| token.expires > now);
    world.cloud.tokens.insert(subject.clone(), token);
    Answer::json(201, body).with_header("x-subject-token", subject)
}

fn describe(world: &mut World, request: &Request, token: &Token) -> Value {
    let audit_id = world.ids.letters(22);
    let credentials = &world.options.credentials;
    let domain = json!({"id": "default", "name": credentials.domain});
    let (user_id, user_name) = if token.admin {
        (&world.cloud.admin_id, &credentials.admin_username)
    } else {
        (&world.cloud.user_id, &credentials.username)
    };
    let method = if token.by_credential {
        "application_credential"
    } else {
        "password"
    };
    let mut body = json!({
        "methods": [method],
        "user": {"domain": domain, "id": user_id, "name": user_name, "password_expires_at": null},
        "audit_ids": [audit_id],
        "expires_at": micros(token.expires),
        "issued_at": micros(token.expires.minus(world.options.token_ttl)),
    });
    if token.scoped {
        let mut roles = vec![
            json!({"id": "e73c8ff3471142bdbdfdeee441ac2ab7", "name": "member"}),
            json!({"id": "9e6f1fcebea3432b858dba454f34c0be", "name": "reader"}),
        ];
        if token.admin {
            roles.push(json!({"id": "5f0c8a1c0e5b4d0c9f0d5a1b2c3d4e5f", "name": "admin"}));
        }
        crate::json::set(
            &mut body,
            "/project",
            json!({"domain": domain, "id": world.cloud.project_id, "name": credentials.project}),
        );
        crate::json::set(&mut body, "/is_domain", false);
        crate::json::set(&mut body, "/roles", roles);
        crate::json::set(&mut body, "/catalog", catalog(world, request));
    }
    if token.by_credential {
        crate::json::set(
            &mut body,
            "/application_credential",
            json!({"id": credentials.application_credential_id, "name": credentials.username,
                "restricted": true}),
        );
    }
    json!({"token": body})
}

fn catalog(world: &World, request: &Request) -> Value {
    let region = &world.options.credentials.region;
    let ids = &world.cloud.catalog_ids;
    let endpoint = |place: usize, interface: &str, url: String| {
        json!({"id": ids.get(place), "interface": interface, "region_id": region, "url": url,
            "region": region})
    };
    let identity = format!("{}/v3", request.base);
    let compute = format!("{}/compute/v2.1", request.base);
    let network = format!("{}/network", request.base);
    let image = format!("{}/image", request.base);
    let placement = format!("{}/placement", request.base);
    json!([
        {
            "endpoints": [
                endpoint(0, "public", identity.clone()),
                endpoint(1, "internal", identity.clone()),
                endpoint(2, "admin", identity),
            ],
            "id": "b6cbee330e9d4a9a87c7553b5a00bfb9", "type": "identity", "name": "keystone",
        },
        {
            "endpoints": [
                endpoint(3, "public", compute.clone()),
                endpoint(4, "internal", compute),
            ],
            "id": "9b713a32cb504af18e24106e9c009ee5", "type": "compute", "name": "nova",
        },
        {
            "endpoints": [
                endpoint(5, "public", network.clone()),
                endpoint(6, "internal", network),
            ],
            "id": "1a2f9c0be7e84d0b8f21c1d4f7a9e3c5", "type": "network", "name": "neutron",
        },
        // Nobody answers at these two: Rhizome asks nothing of them.
        {
            "endpoints": [
                endpoint(7, "public", image.clone()),
                endpoint(8, "internal", image),
            ],
            "id": "3c4d5e6f708192a3b4c5d6e7f8091a2b", "type": "image", "name": "glance",
        },
        {
            "endpoints": [
                endpoint(9, "public", placement.clone()),
                endpoint(10, "internal", placement),
            ],
            "id": "4d5e6f708192a3b4c5d6e7f8091a2b3c", "type": "placement", "name": "placement",
        },
    ])
}

fn validate(world: &mut World, request: &Request) -> Answer {
    if token_of(world, request).is_none() {
        return unauthorized(request, REFUSED);
    }
    let subject = request.header("x-subject-token").unwrap_or_default();
    match live_token(world, subject).cloned() {
        Some(token) => Answer::json(200, describe(world, request, &token))
            .with_header("x-subject-token", subject),
        None => error(404, "Not Found", "This is not a recognized Fernet token."),
    }
}

fn revoke(world: &mut World, request: &Request) -> Answer {
    if token_of(world, request).is_none() {
        return unauthorized(request, REFUSED);
    }
    let subject = request.header("x-subject-token").unwrap_or_default();
    match world.cloud.tokens.remove(subject) {
        Some(_) => Answer::empty(204),
        None => error(404, "Not Found", "This is not a recognized Fernet token."),
    }
}
