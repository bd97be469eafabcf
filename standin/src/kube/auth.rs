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

/// The group of kubeadm's own tokens. What it asks for is approved by the cluster at once.
pub(super) const KUBEADM_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Groups whose bootstrap tokens have the rights to join: kubeadm's, and the one of
/// `deploy/rbac.yaml`, for which nobody but Rhizome approves anything.
const JOINING_GROUPS: [&str; 2] = [KUBEADM_GROUP, "system:bootstrappers:rhizome"];

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    /// Rhizome's service account.
    Rhizome,
    /// The holder of a bootstrap token.
    Bootstrap(Bearer),
    /// The kubelet of a node, by its certificate.
    Node(String),
    /// Nobody.
    Anonymous,
}

/// Who a bootstrap token says that its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// The token's id.
    pub(crate) id: String,
    /// The groups that its Secret names.
    pub(crate) groups: Vec<String>,
}

/// An accepted bootstrap token.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    bearer: Bearer,
    until: Timestamp,
}

impl User {
    /// The user's name, as errors and CSRs have it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Rhizome => "system:serviceaccount:kube-system:rhizome".to_owned(),
            Self::Bootstrap(bearer) => format!("system:bootstrap:{}", bearer.id),
            Self::Node(name) => format!("system:node:{name}"),
            Self::Anonymous => "system:anonymous".to_owned(),
        }
    }

    /// The user's groups.
    pub(crate) fn groups(&self) -> Vec<String> {
        let named: &[&str] = match self {
            Self::Rhizome => &[
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
            Self::Bootstrap(bearer) => {
                let mut groups = vec!["system:bootstrappers".to_owned()];
                groups.extend(bearer.groups.iter().cloned());
                groups.push("system:authenticated".to_owned());
                return groups;
            }
            Self::Node(_) => &["system:nodes", "system:authenticated"],
            Self::Anonymous => &["system:unauthenticated"],
        };
        named.iter().map(|group| (*group).to_owned()).collect()
    }
}

/// Who asks; nothing if what he shows is not accepted.
pub(crate) fn authenticate(world: &mut World, request: &Request) -> Option<User> {
    let Some(header) = request.header("authorization") else {
        return match request.header("client-cert") {
            Some(shown) => {
                let node = world.cluster.certificates.get(shown.trim_matches(':'))?;
                Some(User::Node(node.clone()))
            }
            None => Some(User::Anonymous),
        };
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
        return Some(User::Bootstrap(cached.bearer.clone()));
    }
    let bearer = bearer_of(world, token)?;
    let cached = Cached {
        bearer: bearer.clone(),
        until: now.plus(TOKEN_CACHE),
    };
    world.cluster.accepted.insert(token.to_owned(), cached);
    Some(User::Bootstrap(bearer))
}

/// Who holds a bootstrap token that is good now; nothing if it is not, whatever the reason.
pub(crate) fn bearer_of(world: &World, token: &str) -> Option<Bearer> {
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
    good.then(|| Bearer {
        id: id.to_owned(),
        groups: field("auth-extra-groups")
            .unwrap_or_default()
            .split(',')
            .filter(|group| !group.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

impl Bearer {
    fn may_join(&self) -> bool {
        self.groups
            .iter()
            .any(|group| JOINING_GROUPS.contains(&group.as_str()))
    }

    /// Whether the cluster approves by itself what the holder asks for.
    pub(super) fn is_approved_by_itself(&self) -> bool {
        self.groups.iter().any(|group| group == KUBEADM_GROUP)
    }
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
        User::Bootstrap(bearer) if !bearer.may_join() => false,
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
        User::Node(name) => node_may(name, verb, target),
        User::Anonymous => {
            target.kind == Kind::ConfigMap
                && verb == "get"
                && target.namespace.as_deref() == Some("kube-public")
                && target.name.as_deref() == Some("cluster-info")
        }
    }
}

/// What a kubelet needs, for its own node alone where the request names one.
fn node_may(node: &str, verb: &str, target: &Target) -> bool {
    let own = target.name.as_deref().is_none_or(|name| name == node);
    match target.kind {
        Kind::Node => own && matches!(verb, "create" | "get" | "patch"),
        Kind::Lease => own && matches!(verb, "create" | "get" | "patch"),
        Kind::Pod => matches!(verb, "get" | "list" | "watch" | "patch" | "delete"),
        _ => false,
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

/// The 403 of a path that is no resource.
pub(crate) fn no_right_to_path(request: &Request, user: &User) -> Answer {
    let message = format!(
        "forbidden: User \"{}\" cannot {} path \"{}\"",
        user.name(),
        request.method.as_str().to_ascii_lowercase(),
        request.path,
    );
    status::with_details(403, "Forbidden", &message)
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
    let allowed = match target {
        Some(target) => may(world, user, &asked("verb"), &target),
        // Signers are no objects, and yet there are rights to them.
        None => {
            let right = (asked("verb"), asked("resource"));
            right.1 == "signers" && *user == User::Rhizome && !world.cluster.denied.contains(&right)
        }
    };
    let answer: Value = if allowed {
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"rhizome\" of ClusterRole \"rhizome\" to ServiceAccount \"rhizome/kube-system\""})
    } else {
        json!({"allowed": false})
    };
    set(&mut review, "/apiVersion", "authorization.k8s.io/v1");
    set(&mut review, "/kind", "SelfSubjectAccessReview");
    set(&mut review, "/status", answer);
    if review.get("metadata").is_none() {
        set(&mut review, "/metadata", json!({}));
    }
    Answer::json(201, review)
}
