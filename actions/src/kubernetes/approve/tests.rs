use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

const OURS: &str = "system:bootstrap:abcdef";

/// A kubelet's request for the certificate of `w-1`, made by openssl.
const REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHsMIGTAgEAMDExFTATBgNVBAoMDHN5c3RlbTpub2RlczEYMBYGA1UEAwwPc3lz
dGVtOm5vZGU6dy0xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2u/SaW0Uxb+B
40bU3AZK1AR6l4B0m0q508wAevQyXxBTi6tPacxMvUt4XC4S0y0gQyI93nhN9wFF
WP2HGH61X6AAMAoGCCqGSM49BAMCA0gAMEUCIQC1ES/jl5oAdvsWs2sRG7BK6GtS
ojfiCbO9HsXa9jcy1QIgI9vQnRi4ex7AvwgZsTWkBA9CHL7ixe/gsv+mkf4EaQA=
-----END CERTIFICATE REQUEST-----
";

fn request(change: impl Fn(&mut Value)) -> Csr {
    let mut wire = json!({
        "metadata": {"name": "node-csr-1"},
        "spec": {"request": STANDARD.encode(REQUEST), "username": OURS,
            "signerName": SIGNER, "usages": ["digital signature", "client auth"]},
        "status": {},
    });
    change(&mut wire);
    serde_json::from_value(wire).unwrap()
}

fn with(condition: &str) -> Csr {
    request(|wire| {
        wire["status"]["conditions"] = json!([{"type": condition, "status": "True"}]);
    })
}

fn node(provider_id: Value) -> Node {
    serde_json::from_value(
        json!({"metadata": {"name": "w-1"}, "spec": {"providerID": provider_id}}),
    )
    .unwrap()
}

fn judged(requests: &[Csr], on: Option<&Node>) -> Verdict {
    judged_for("w-1", requests, on)
}

fn judged_for(name: &str, requests: &[Csr], on: Option<&Node>) -> Verdict {
    let expected = Expected {
        user: OURS.to_owned(),
        node: &name.into(),
        vm: &"vm-1".into(),
    };
    judge(requests, on, &expected)
}

fn refused(verdict: &Verdict, word: &str) -> bool {
    matches!(verdict, Verdict::Refuse(why) if why.contains(word))
}

#[test]
fn the_one_machine_is_let_in_and_no_other() {
    let approve = Verdict::Approve("node-csr-1".to_owned());
    assert_eq!(judged(&[request(|_| {})], None), approve);
    let rsa = request(|wire| {
        wire["spec"]["usages"] = json!(["key encipherment", "digital signature", "client auth"]);
    });
    assert_eq!(judged(&[rsa], None), approve);
    // What others ask for is none of our business.
    let other = request(|wire| wire["spec"]["username"] = json!("system:bootstrap:ghijkl"));
    assert_eq!(judged(std::slice::from_ref(&other), None), Verdict::Wait);
    assert_eq!(judged(&[other, request(|_| {})], None), approve);
    assert_eq!(judged(&[], None), Verdict::Wait);
}

#[test]
fn a_token_that_asks_for_anything_else_lets_nobody_in() {
    let asks_for_w_1 = request(|_| {});
    assert!(refused(
        &judged_for("w-2", &[asks_for_w_1], None),
        "system:node:w-1"
    ));
    let serving =
        request(|wire| wire["spec"]["usages"] = json!(["digital signature", "server auth"]));
    assert!(refused(&judged(&[serving], None), "server auth"));
    let signer =
        request(|wire| wire["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client"));
    assert!(refused(&judged(&[signer], None), "signer"));
    let nonsense = request(|wire| wire["spec"]["request"] = json!("bm9uc2Vuc2U="));
    assert!(refused(&judged(&[nonsense], None), "form"));
}

#[test]
fn a_second_machine_with_the_token_is_never_let_in() {
    let second = request(|wire| wire["metadata"]["name"] = json!("node-csr-2"));
    let both = [request(|_| {}), second.clone()];
    assert!(refused(&judged(&both, None), "2 machines"));
    // Nor after the first: whoever it is, it waits for ever.
    assert_eq!(judged(&[with("Approved"), second], None), Verdict::Done);
    assert!(refused(&judged(&[with("Denied")], None), "denied"));
}

#[test]
fn a_name_that_is_taken_is_given_to_nobody() {
    let asks = [request(|_| {})];
    assert!(refused(
        &judged(&asks, Some(&node(json!("openstack:///vm-0")))),
        "vm-0"
    ));
    assert!(refused(&judged(&asks, Some(&node(Value::Null))), "taken"));
    // It has joined, by our approval or by other means.
    assert_eq!(
        judged(&asks, Some(&node(json!("openstack:///vm-1")))),
        Verdict::Done
    );
    assert_eq!(
        judged(&[], Some(&node(json!("openstack:///vm-1")))),
        Verdict::Done
    );
    assert_eq!(
        judged(&[with("Approved")], Some(&node(Value::Null))),
        Verdict::Done
    );
}
