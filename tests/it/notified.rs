//! What asks for a human leaves the program: it is posted, and stands in the metrics.

use rhizome_standin::{Api, Fault, Rule};
use serde_json::Value;

use crate::harness::{Setup, Site};

const LIST: &str = "/compute/v2.1/servers/detail";
const KIND: &str = "partial_inventory";

#[test]
fn a_list_that_comes_back_empty_is_posted_once_and_its_end_too() {
    let site = Site::settled(Setup {
        min: 2,
        ..Setup::default()
    });
    let empty = Rule::new(LIST, Fault::PartialList(0)).on(Api::OpenStack);
    let rule = site.standin.fault(empty);
    let begun = site.wait("the empty list to be told", |site| told(site).pop());
    assert_eq!(begun["on"], true, "{begun}");
    assert_eq!(begun["cluster"], "test", "{begun}");
    assert_eq!(begun["subject"], "openstack", "{begun}");
    let text = begun["text"].as_str().unwrap();
    assert!(text.contains("a list of 0 VMs"), "{begun}");
    attention(&site, 1);

    site.standin.faults(|faults| faults.remove(rule));
    let over = site.wait("its end to be told", |site| told(site).into_iter().nth(1));
    assert_eq!(over["on"], false, "{over}");
    for key in ["kind", "pool", "subject"] {
        assert_eq!(over[key], begun[key], "{key} says what is over");
    }
    attention(&site, 0);
    assert_eq!(told(&site).len(), 2, "once each: {:?}", told(&site));
}

/// What was posted of it.
fn told(site: &Site) -> Vec<Value> {
    let posts = site.posts().into_iter();
    posts.filter(|post| post["kind"] == KIND).collect()
}

/// Waits until the metrics say whether it asks for a human.
fn attention(site: &Site, holds: u32) {
    let line = format!("rhizome_attention{{kind=\"{KIND}\",pool=\"\"}} {holds}\n");
    site.wait(&line, |site| {
        site.get("/metrics", None).1.contains(&line).then_some(())
    });
}
