//! What becomes of us when the real API server does not take our word any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhizome_actions::kubernetes::Access;
use rhizome_actions::{Executor, Seen};
use rhizome_engine::event::{SourceName, SourceReport};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::place::{Ours, PATIENCE};

/// A token of our account that is good for as long as its Secret is there.
fn bound_token(ours: &Ours, secret: &str) -> String {
    let space = ["-n", "rhizome"];
    let make = ["create", "secret", "generic", secret];
    ours.place
        .kubectl(&[make.as_slice(), space.as_slice()].concat());
    let bound = [
        "create",
        "token",
        "rhizome",
        "--bound-object-kind=Secret",
        "--bound-object-name",
        secret,
    ];
    let token = ours
        .place
        .kubectl(&[bound.as_slice(), space.as_slice()].concat());
    token.trim().to_owned()
}

/// A kubeconfig that reads its token from a file.
fn kubeconfig(ours: &Ours, folder: &Path, token: &Path) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": ours.place.url(),
            "certificate-authority": ours.place.ca_file()}}],
        "users": [{"name": "us", "user": {"tokenFile": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "us"}}]});
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// The next report of the cluster that says so.
async fn flows(seen: &mut mpsc::Receiver<Seen>, wanted: bool) -> SourceReport {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let next = tokio::time::timeout_at(end, seen.recv()).await;
        if let Seen::Source(report) = next.unwrap().unwrap()
            && report.source == SourceName::Kubernetes
            && report.flowing == wanted
        {
            return report;
        }
    }
}

#[tokio::test]
async fn a_token_that_is_withdrawn_is_blindness_until_there_is_another() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("withdrawn");
    std::fs::create_dir_all(&folder).unwrap();
    let token = folder.join("token");
    std::fs::write(&token, bound_token(&ours, "withdrawn")).unwrap();
    let access = Access::Kubeconfig {
        path: kubeconfig(&ours, &folder, &token),
        context: None,
    };
    let kubernetes = Arc::new(Ours::executor(access).await);
    let (sender, mut seen) = mpsc::channel(1_000);
    let stop = CancellationToken::new();
    let (watcher, stopped) = (Arc::clone(&kubernetes), stop.clone());
    let watching = tokio::spawn(async move { watcher.watch(sender, stopped).await });
    flows(&mut seen, true).await;

    ours.place
        .kubectl(&["delete", "secret", "withdrawn", "-n", "rhizome"]);
    let blind = flows(&mut seen, false).await;
    assert!(blind.trouble.contains("answered 401"), "{blind:?}");
    assert!(blind.trouble.contains("check the token"), "{blind:?}");

    std::fs::write(&token, bound_token(&ours, "taken-up")).unwrap();
    flows(&mut seen, true).await;
    stop.cancel();
    watching.await.unwrap();
    ours.place
        .kubectl(&["delete", "secret", "taken-up", "-n", "rhizome"]);
}
