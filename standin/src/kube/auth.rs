//! Who asks, and whether he may.

use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::{Target, status};
use crate::http::{Answer, Request};
use crate::json::{set, text, text_or_empty};
use crate::world::{World, parse_time};

/// How long an accepted bootstrap token is remembered: seen, it works that long after its
/// Secret is gone.
const TOKEN_CACHE: std::time::Duration = std::time::Duration::from_secs(10);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    /// Rhizome's service account.
    Rhizome,
    /// The holder of a bootstrap token, by the token's id.
    Bootstrap(String),
    /// Nobody.
    Anonymous,
}

/// An accepted bootstrap token.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    id: String,
    until: Timestamp,
}

impl User {
    /// The user's name, as errors and CSRs have it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Rhizome => "system:serviceaccount:kube-system:rhizome".to_owned(),
            Self::Bootstrap(id) => format!("system:bootstrap:{id}"),
            Self::Anonymous => "system:anonymous".to_owned(),
        }
    }

    /// The user's groups.
    pub(crate) fn groups(&self) -> Vec<&'static str> {
        match self {
            Self::Rhizome => vec![
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
            Self::Bootstrap(_) => vec![
                "system:bootstrappers",
                "system:bootstrappers:kubeadm:default-node-token",
                "system:authenticated",
            ],
            Self::Anonymous => vec!["system:unauthenticated"],
        }
    }
}

/// Who asks; nothing if what he shows is not accepted.
pub(crate) fn authenticate(world: &mut World, request: &Request) -> Option<User> {
    let Some(header) = request.header("authorization") else {
        return Some(User::Anonymous);
    };
    let token = header.strip_prefix("Bearer ")?.trim();
    if token == world.options.credentials.kubernetes_token {
        return Some(User::Rhizome);
    }
    let now = world.now;
    world
        .cluster
        .accepted
        .retain(|_, cached| cached.until > now);
    if let Some(cached) = world.cluster.accepted.get(token) {
        return Some(User::Bootstrap(cached.id.clone()));
    }
    let id = token_id(world, token)?;
    let cached = Cached {
        id: id.clone(),
        until: now.plus(TOKEN_CACHE),
    };
    world.cluster.accepted.insert(token.to_owned(), cached);
    Some(User::Bootstrap(id))
}

/// The id of a bootstrap token that is good now; nothing if it is not, whatever the reason.
pub(crate) fn token_id(world: &World, token: &str) -> Option<String> {
    let (id, secret) = token.split_once('.')?;
    let object = world.cluster.get(
        Kind::Secret,
        "kube-system",
        &format!("bootstrap-token-{id}"),
    )?;
    let field = |name: &str| {
        let encoded = text(object, &format!("/data/{name}"))?;
        super::objects::decode(encoded)
    };
    let good = text(object, "/type") == Some("bootstrap.kubernetes.io/token")
        && field("token-id").as_deref() == Some(id)
        && field("token-secret").as_deref() == Some(secret)
        && field("usage-bootstrap-authentication").as_deref() == Some("true")
        && match field("expiration") {
            None => true,
            Some(expiration) => parse_time(&expiration).is_some_and(|at| at > world.now),
        };
    good.then(|| id.to_owned())
}

/// The verb of a request on a kind.
pub(crate) fn verb(request: &Request, target: &Target) -> &'static str {
    match (request.method.as_str(), target.name.is_some()) {
        ("GET", true) => "get",
        ("GET", false) if request.flag("watch") => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "",
    }
}

fn resource(target: &Target) -> String {
    let plural = target.kind.info().plural;
    match &target.sub {
        Some(sub) => format!("{plural}/{sub}"),
        None => plural.to_owned(),
    }
}

fn may(world: &World, user: &User, verb: &str, target: &Target) -> bool {
    let resource = resource(target);
    match user {
        User::Rhizome => !world.cluster.denied.contains(&(verb.to_owned(), resource)),
        User::Bootstrap(_) => match target.kind {
            Kind::Csr => matches!(verb, "create" | "get" | "list" | "watch"),
            Kind::Node => verb == "get",
            Kind::ConfigMap => {
                verb == "get"
                    && target.namespace.as_deref() == Some("kube-system")
                    && matches!(
                        target.name.as_deref(),
                        Some("kubeadm-config" | "kubelet-config")
                    )
            }
            _ => false,
        },
        User::Anonymous => {
            target.kind == Kind::ConfigMap
                && verb == "get"
                && target.namespace.as_deref() == Some("kube-public")
                && target.name.as_deref() == Some("cluster-info")
        }
    }
}

/// The 403 of a user without the right. It is asked before the object is looked for.
pub(crate) fn authorize(
    world: &World,
    request: &Request,
    user: &User,
    target: &Target,
) -> Option<Answer> {
    let verb = verb(request, target);
    if may(world, user, verb, target) {
        return None;
    }
    let info = target.kind.info();
    let what = match &target.name {
        Some(name) => format!("{} \"{name}\"", info.qualified()),
        None => info.qualified(),
    };
    let scope = match &target.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{what} is forbidden: User \"{}\" cannot {verb} resource \"{}\" in API group \"{}\" {scope}",
        user.name(),
        resource(target),
        info.group,
    );
    Some(status::about(
        403,
        "Forbidden",
        &message,
        target.kind,
        target.name.as_deref().unwrap_or_default(),
    ))
}

/// `SelfSubjectAccessReview`: no right is needed to ask for one's own.
pub(crate) fn access_review(world: &World, request: &Request, user: &User) -> Answer {
    let Some(mut review) = request.json() else {
        return status::failure(400, "BadRequest", "the body is no JSON object");
    };
    let asked =
        |name: &str| text_or_empty(&review, &format!("/spec/resourceAttributes/{name}")).to_owned();
    let target = Kind::find(&asked("group"), &asked("resource")).map(|kind| Target {
        kind,
        namespace: Some(asked("namespace")).filter(|text| !text.is_empty()),
        name: Some(asked("name")).filter(|text| !text.is_empty()),
        sub: Some(asked("subresource")).filter(|text| !text.is_empty()),
    });
    let allowed = target.is_some_and(|target| may(world, user, &asked("verb"), &target));
    let answer: Value = if allowed {
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"rhizome\" of ClusterRole \"rhizome\" to ServiceAccount \"rhizome/kube-system\""})
    } else {
        json!({"allowed": false})
    };
    set(&mut review, "/apiVersion", "authorization.k8s.io/v1");
    set(&mut review, "/kind", "SelfSubjectAccessReview");
    set(&mut review, "/status", answer);
    Answer::json(201, review)
}
