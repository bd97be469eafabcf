//! What the doctor says of a real cluster, to one with the rights of the manifest and to one
//! without any.

use rhizome_actions::kubernetes::Approval;
use rhizome_actions::{Finding, Health};

use crate::cluster::place::Ours;

fn bad(found: &[Finding]) -> Vec<&str> {
    found
        .iter()
        .filter(|one| one.health == Health::Bad)
        .map(|one| one.said.as_str())
        .collect()
}

#[tokio::test]
async fn with_the_manifest_nothing_is_lacking_and_without_it_each_right_is_named() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let found = ours.kubernetes.examine().await;
    assert_eq!(bad(&found), Vec::<&str>::new(), "{found:?}");

    ours.place.kubectl(&["create", "serviceaccount", "nobody"]);
    let token = ours.place.kubectl(&["create", "token", "nobody"]);
    let nobody = Ours::as_account(ours.place, token.trim(), Approval::Rhizome).await;
    let found = nobody.kubernetes.examine().await;
    let lacking = bad(&found);
    for right in [
        "lacking: delete nodes",
        "lacking: create pods/eviction",
        "lacking: list leases.coordination.k8s.io in kube-node-lease",
        "lacking: create secrets in kube-system",
    ] {
        assert!(lacking.contains(&right), "{right}: {found:?}");
    }
    let nonsense = Ours::as_account(ours.place, "nonsense", Approval::Rhizome).await;
    let found = nonsense.kubernetes.examine().await;
    assert_eq!(
        bad(&found),
        ["it does not accept our credentials"],
        "{found:?}"
    );
}
