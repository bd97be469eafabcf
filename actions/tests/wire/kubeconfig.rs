//! A kubeconfig that cannot be used: its place is told, and nothing of what stands in it.

use std::sync::Arc;

use rhizome_actions::TokenVault;
use rhizome_actions::kubernetes::{Access, Approval, Kubernetes, KubernetesOptions};

use crate::common::{Log, TestClock};

const TOKEN: &str = "s3cr3t-t0ken-of-ours";

/// What is said of a kubeconfig with this text.
async fn refused(text: &str) -> String {
    rhizome_actions::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    let options = KubernetesOptions {
        access: Access::Kubeconfig {
            path,
            context: None,
        },
        approval: Approval::Rhizome,
        evict_unmanaged: false,
        evict_local_storage: false,
    };
    let made = Kubernetes::new(options, TestClock::new(), Arc::new(TokenVault::new())).await;
    let error = made.err().unwrap();
    format!("{error}\n{error:?}")
}

#[tokio::test]
async fn a_file_that_is_no_kubeconfig_is_told_with_the_place_and_without_its_text() {
    let log = Log::capture();
    let users = "apiVersion: v1\nkind: Config\nusers:\n- name: rhizome\n  user:\n";
    for (name, text, place) in [
        (
            "one blank too few",
            format!("{users}    username: u\n   token: {TOKEN}\n"),
            "line 7",
        ),
        ("a tab", format!("{users}\ttoken: {TOKEN}\n"), "line 6"),
        (
            "a list where a text belongs",
            format!("{users}    token: [{TOKEN}]\n"),
            "line 6",
        ),
        ("no map at all", TOKEN.to_owned(), "line 1"),
    ] {
        let said = refused(&text).await;
        assert!(said.contains("is no kubeconfig"), "{name}: {said}");
        assert!(said.contains(place), "{name}: {said}");
        assert!(!said.contains(TOKEN), "{name}: {said}");
    }
    assert!(!log.text().contains(TOKEN));
}

#[tokio::test]
async fn what_a_failing_credential_plugin_writes_is_not_told() {
    let secret = format!("{TOKEN}-{}", "A".repeat(40));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
         users:\n- name: u\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      \
         command: sh\n      args: ['-c', 'echo {{\"token\": \"{secret}\"}}; exit 1']\n      \
         interactiveMode: Never\n"
    );
    let said = refused(&text).await;
    assert!(said.contains("credential plugin"), "{said}");
    assert!(!said.contains(TOKEN), "{said}");
}
