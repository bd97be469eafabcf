//! What one key says held against what another says, once each has the right shape.

use std::collections::BTreeSet;
use std::time::Duration;

use rhizome_actions::Taint;
use rhizome_engine::event::SourceReport;
use rhizome_engine::time::format_duration;

use super::kafka;
use super::sections::{Config, Interface, PoolConfig, Right, Without};

/// No wait of a pool may be longer: an operation that stands for hours hides a fault.
const MAX_WAIT: Duration = Duration::from_secs(4 * 3600);

/// Samples later than a day are a backlog, not lateness.
const MAX_LATENESS: Duration = Duration::from_secs(24 * 3600);

/// Listing a cloud more often than each second is load and no news.
const MIN_POLL: Duration = Duration::from_secs(1);

/// Sources report every ten seconds ([`SourceReport::EVERY`]), and a report may be half as late
/// again: a shorter time-out would take sources that are well for lost.
const MIN_SOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// A DNS label: what Kubernetes takes as a part of a node's name.
const MAX_NAME: usize = 40;

/// A path of keys, and what is wrong there.
pub(super) type Problem = (Vec<String>, String);

/// Everything that is wrong with a configuration whose keys each have the right shape.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut found = |path: &[&str], message: String| {
        problems.push((path.iter().map(|key| (*key).to_owned()).collect(), message));
    };
    if let Some(why) = bad_name(&config.cluster) {
        found(&["cluster"], why);
    }
    if config.lateness.0 > MAX_LATENESS {
        found(
            &["lateness"],
            "late samples are kept in memory: at most `1d` is allowed".to_owned(),
        );
    }
    if config.pools.is_empty() {
        found(&["pools"], "there is no pool: name at least one".to_owned());
    }
    for (name, pool) in &config.pools {
        for (key, message) in check_pool(name, pool, config) {
            match key {
                Some(key) => found(&["pools", name, key], message),
                None => found(&["pools", name], message),
            }
        }
    }
    if let Some(kafka) = &config.kafka {
        kafka::check(kafka, &mut found);
    }
    check_listen(config, &mut found);
    check_openstack(config, &mut found);
    if let Some(join) = config
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.join.as_ref())
    {
        for (place, hash) in join.ca_cert_hashes.iter().enumerate() {
            if !is_pin(hash) {
                found(
                    &["kubernetes", "join", "ca_cert_hashes", &place.to_string()],
                    format!(
                        "`{hash}` is no pin of a CA: it is `sha256:` and 64 hex digits, as `kubeadm token create --print-join-command` shows it"
                    ),
                );
            }
        }
    }
    if let Some(name) = &config.pause.config_map {
        if !is_namespace_and_name(name) {
            let message = format!(
                "`{name}` is no ConfigMap: write it as `NAMESPACE/NAME`, as in `rhizome/rhizome-pause`"
            );
            found(&["pause", "config_map"], message);
        }
        if config.kubernetes.is_none() {
            found(
                &["pause", "config_map"],
                "a ConfigMap is in a cluster, and there is none: add `kubernetes`, or use a file"
                    .to_owned(),
            );
        }
    }
    for loose in config.limits.too_loose() {
        found(&["limits", loose.key], loose.message);
    }
    check_source_timeout(config, &mut found);
    if tracing_subscriber::EnvFilter::try_new(&config.log.level).is_err() {
        found(
            &["log", "level"],
            format!(
                "`{}` is no log level: write `info`, or per part as in `info,rhizome=debug`",
                config.log.level
            ),
        );
    }
    problems
}

fn check_pool(
    name: &str,
    pool: &PoolConfig,
    config: &Config,
) -> Vec<(Option<&'static str>, String)> {
    let mut found = Vec::new();
    if let Some(why) = bad_name(name) {
        found.push((None, why));
    }
    if pool.min > pool.max {
        found.push((
            Some("min"),
            format!(
                "`min` is {} and `max` is {}: `min` may not be larger",
                pool.min, pool.max
            ),
        ));
    }
    if pool.kubernetes && config.kubernetes.is_none() {
        found.push((
            None,
            "its machines join Kubernetes, and there is no section `kubernetes`: add it, or write `kubernetes: false` here".to_owned(),
        ));
    }
    let joins = config
        .kubernetes
        .as_ref()
        .is_some_and(|kubernetes| kubernetes.join.is_some());
    if pool.kubernetes && pool.user_data.is_none() && config.kubernetes.is_some() && !joins {
        found.push((
            None,
            "its machines cannot know how to join: add `kubernetes.join`, or a template of your own as `user_data` here".to_owned(),
        ));
    }
    let of_nodes = [
        ("labels", pool.labels.is_empty()),
        ("taints", pool.taints.is_empty()),
    ];
    for (key, none) in of_nodes {
        if !pool.kubernetes && !none {
            let message = format!("{key} are put on Kubernetes nodes, and this pool has none");
            found.push((Some(key), message));
        }
    }
    let wrong = pool
        .taints
        .iter()
        .find_map(|taint| taint.parse::<Taint>().err());
    found.extend(wrong.map(|why| (Some("taints"), why)));
    let unknown = pool
        .fallback_networks
        .keys()
        .find(|id| !pool.networks.contains(id));
    if let Some(id) = unknown {
        found.push((
            Some("fallback_networks"),
            format!("`{id}` is none of the pool's `networks`, so nothing takes its place"),
        ));
    }
    if pool.floating_network.is_some() && pool.networks.is_empty() {
        found.push((
            Some("floating_network"),
            "a floating address leads to a port of ours: name the pool's `networks`".to_owned(),
        ));
    }
    for (key, text) in [("image", &pool.image), ("flavor", &pool.flavor)] {
        if text.trim().is_empty() {
            found.push((Some(key), "is empty: name it by its id".to_owned()));
        }
    }
    let waits = [
        ("build_timeout", &pool.build_timeout),
        ("join_timeout", &pool.join_timeout),
        ("drain_timeout", &pool.drain_timeout),
        ("rung_timeout", &pool.rung_timeout),
        ("stabilization", &pool.stabilization),
    ];
    for (key, wait) in waits {
        if wait.0 > MAX_WAIT || (wait.0.is_zero() && key != "stabilization") {
            found.push((
                Some(key),
                "is out of range: more than nothing and at most `4h` is allowed".to_owned(),
            ));
        }
    }
    found
}

fn check_listen(config: &Config, found: &mut impl FnMut(&[&str], String)) {
    let listen = &config.listen;
    let gives_up = |what| listen.without.contains(&what);
    let open = !listen.address.0.ip().is_loopback();
    if open && listen.tls.is_none() && !gives_up(Without::Tls) {
        found(
            &["listen", "address"],
            "others can reach this address, and a forged event could cost a machine: add `listen.tls`, or write `without: [tls]` if a proxy in front does it".to_owned(),
        );
    }
    let nobody = listen.tokens.is_empty() && listen.users.is_empty();
    if open && nobody && !gives_up(Without::Authentication) {
        found(
            &["listen", "address"],
            "others can reach this address, and anybody could give orders: add `listen.tokens` or `listen.users`, or write `without: [authentication]`".to_owned(),
        );
    }
    if gives_up(Without::Authentication) && !nobody {
        found(&["listen", "without"], "there are tokens or users, and authentication is done without: take one of the two away".to_owned());
    }
    if gives_up(Without::Tls) && listen.tls.is_some() {
        found(
            &["listen", "without"],
            "there is a certificate, and TLS is done without: take one of the two away".to_owned(),
        );
    }
    let mut names = BTreeSet::new();
    let tokens = listen
        .tokens
        .iter()
        .map(|token| ("tokens", &token.name, &token.may));
    let users = listen
        .users
        .iter()
        .map(|user| ("users", &user.name, &user.may));
    let mut place = 0;
    let mut last = "";
    for (list, name, may) in tokens.chain(users) {
        place = if list == last { place + 1 } else { 0 };
        last = list;
        let at = place.to_string();
        if name.trim().is_empty() || !names.insert(name.clone()) {
            found(
                &["listen", list, &at, "name"],
                "each token and user needs a name of its own: the journal will say it".to_owned(),
            );
        }
        if may.is_empty() {
            found(
                &["listen", list, &at, "may"],
                "it may do nothing: name some of `ingest`, `alert`, `read` and `operate`"
                    .to_owned(),
            );
        }
        if open && may.contains(&Right::Ingest) && may.contains(&Right::Alert) {
            found(
                &["listen", list, &at, "may"],
                "events and alerts are two witnesses, and who has both may have any node healed: give alerts a token or user of their own".to_owned(),
            );
        }
    }
}

fn check_source_timeout(config: &Config, found: &mut impl FnMut(&[&str], String)) {
    let limits = &config.limits;
    let loose = limits.overrides.as_ref();
    let paths: [(&[&str], _); 2] = [
        (
            &["limits", "source_timeout"],
            limits.source_timeout.as_ref(),
        ),
        (
            &["limits", "override", "source_timeout"],
            loose.and_then(|loose| loose.source_timeout.as_ref()),
        ),
    ];
    for (path, chosen) in paths {
        let Some(chosen) = chosen.filter(|chosen| chosen.0 < MIN_SOURCE_TIMEOUT) else {
            continue;
        };
        found(
            path,
            format!(
                "{} is too short: sources report every {}, and those that are well would be blind in between; write at least `{}`",
                format_duration(chosen.0),
                format_duration(SourceReport::EVERY),
                format_duration(MIN_SOURCE_TIMEOUT)
            ),
        );
    }
}

fn check_openstack(config: &Config, found: &mut impl FnMut(&[&str], String)) {
    let openstack = &config.openstack;
    let own = openstack.application_credential.is_some() || openstack.password.is_some();
    if openstack.auth_url.is_none() && own {
        found(
            &["openstack"],
            "there are credentials and no address: add `auth_url`, or leave both to `clouds.yaml`"
                .to_owned(),
        );
    }
    if openstack.auth_url.is_none() && openstack.interface != Interface::Public {
        found(
            &["openstack", "interface"],
            "there is no `auth_url`: say it in the cloud's file".to_owned(),
        );
    }
    if openstack.auth_url.is_some() && openstack.cloud.is_some() {
        found(
            &["openstack", "cloud"],
            "there is an `auth_url` too: keep one of the two".to_owned(),
        );
    }
    match (&openstack.application_credential, &openstack.password) {
        (Some(_), None) | (None, Some(_)) => {}
        (None, None) if openstack.auth_url.is_none() => {}
        (None, None) => found(
            &["openstack"],
            "there are no credentials: add `application_credential` or `password`".to_owned(),
        ),
        (Some(_), Some(_)) => found(
            &["openstack"],
            "there are two credentials: keep `application_credential` or `password`".to_owned(),
        ),
    }
    if openstack.poll.0 < MIN_POLL {
        found(
            &["openstack", "poll"],
            "more often than `1s` is load and no news".to_owned(),
        );
    }
}

/// Why a name cannot be part of node names and marks.
fn bad_name(name: &str) -> Option<String> {
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-');
    (!fine).then(|| {
        format!("`{name}` cannot be part of a node's name: use at most {MAX_NAME} of a-z, 0-9 and `-`, not at its ends")
    })
}

fn is_namespace_and_name(text: &str) -> bool {
    let fine = |part: &str| {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('.')
    };
    text.split_once('/')
        .is_some_and(|(namespace, name)| fine(namespace) && !namespace.contains('.') && fine(name))
}

fn is_pin(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
