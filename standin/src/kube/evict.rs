//! Eviction: a delete that asks the pod's disruption budget first.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::select::label_selector_takes;
use super::store::{is_deleting, key_of};
use super::{Target, pods, status};
use crate::http::{Answer, Request};
use crate::json::{integer, set, text, text_or_empty};
use crate::ledger::Fact;
use crate::world::{World, seconds};

/// `POST …/pods/{name}/eviction`.
pub(super) fn evict(world: &mut World, request: &Request, target: &Target) -> Answer {
    let key = target.key();
    let name = key.1.as_str();
    let body = request.json().unwrap_or_default();
    let named = text_or_empty(&body, "/metadata/name");
    if !named.is_empty() && named != name {
        return status::failure(
            400,
            "BadRequest",
            "name in URL does not match name in Eviction object",
        );
    }
    let Some(pod) = world.cluster.store.get(Kind::Pod, &key.0, name).cloned() else {
        return status::not_found(Kind::Pod, name);
    };
    for (field, shown) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = text(&body, &format!("/deleteOptions/preconditions/{field}"));
        let found = text_or_empty(&pod, &format!("/metadata/{field}"));
        if let Some(wanted) = wanted
            && wanted != found
        {
            return status::precondition(Kind::Pod, name, shown, wanted, found);
        }
    }
    let dry_run = request.parameter("dryRun") == Some("All")
        || crate::json::items(&body, "/deleteOptions/dryRun").any(|what| what == "All");
    let spends = match ask_budget(world, &pod) {
        Ok(spends) => spends,
        Err(answer) => return *answer,
    };
    if !dry_run {
        if let Some(budget) = spends {
            spend(world, &budget, name);
        }
        finish(world, &pod, &body);
    }
    let answer = Answer::json(201, status::success(201));
    if dry_run { answer } else { answer.done() }
}

/// Namespace and name of the budget that is to be spent, if any; or the refusal.
fn ask_budget(world: &World, pod: &Value) -> Result<Option<super::store::Key>, Box<Answer>> {
    let phase = text_or_empty(pod, "/status/phase");
    if matches!(phase, "Pending" | "Succeeded" | "Failed") || is_deleting(pod) {
        return Ok(None);
    }
    let budgets: Vec<&Value> = world
        .cluster
        .list(Kind::Budget)
        .filter(|budget| {
            text(budget, "/metadata/namespace") == text(pod, "/metadata/namespace")
                && budget
                    .pointer("/spec/selector")
                    .is_some_and(|selector| label_selector_takes(selector, pod))
        })
        .collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(None),
        [budget] => *budget,
        _ => {
            return Err(Box::new(status::failure(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )));
        }
    };
    let number = |path: &str| integer(budget, path).unwrap_or(0);
    let (healthy, desired) = (
        number("/status/currentHealthy"),
        number("/status/desiredHealthy"),
    );
    if !pods::is_ready(pod) {
        let always = text(budget, "/spec/unhealthyPodEvictionPolicy") == Some("AlwaysAllow");
        if always || (desired > 0 && healthy >= desired) {
            return Ok(None);
        }
    }
    let name = text_or_empty(budget, "/metadata/name");
    if number("/status/observedGeneration") < number("/metadata/generation") {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Box::new(too_many(&why, true)));
    }
    if number("/status/disruptionsAllowed") <= 0 {
        let why = if healthy <= desired {
            format!(
                "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
            )
        } else {
            format!("The disruption budget {name} does not allow evicting pods currently")
        };
        return Err(Box::new(too_many(&why, false)));
    }
    Ok(Some(key_of(budget)))
}

/// 429 of a budget. Only a budget that was not looked at yet says when to come back.
fn too_many(why: &str, later: bool) -> Answer {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut body = status::body(429, "TooManyRequests", message);
    set(
        &mut body,
        "/details/causes",
        json!([{"reason": "DisruptionBudget", "message": why}]),
    );
    if later {
        set(&mut body, "/details/retryAfterSeconds", 10);
        return Answer::json(429, body).with_header("retry-after", "10");
    }
    Answer::json(429, body)
}

/// Takes one disruption from the budget in the same call: two evictions at once do not
/// overshoot.
fn spend(world: &mut World, budget: &super::store::Key, pod: &str) {
    let now = seconds(world.now);
    world.cluster.store.update(Kind::Budget, budget, |budget| {
        let left = integer(budget, "/status/disruptionsAllowed").unwrap_or(0);
        set(budget, "/status/disruptionsAllowed", (left - 1).max(0));
        let key = pod.replace('~', "~0").replace('/', "~1");
        set(budget, &format!("/status/disruptedPods/{key}"), now);
    });
}

fn finish(world: &mut World, pod: &Value, body: &Value) {
    let key = key_of(pod);
    let now = world.now;
    world.cluster.store.update(Kind::Pod, &key, |pod| {
        pods::set_condition(
            pod,
            now,
            "DisruptionTarget",
            "True",
            "EvictionByEvictionAPI",
            "Eviction API: evicting",
        );
    });
    world.note(Fact::Evicted {
        pod: format!("{}/{}", key.0, key.1),
        node: text_or_empty(pod, "/spec/nodeName").to_owned(),
    });
    let grace = integer(body, "/deleteOptions/gracePeriodSeconds");
    pods::delete(world, &key, grace);
}
