//! kubectl, fed by a test.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Makes what is described, in place of what there is. `kubectl` is the program with what says
/// which cluster it is for.
pub(crate) fn apply(kubectl: &mut Command, object: &Value) {
    let mut child = kubectl
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(object.to_string().as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success(), "{object}");
}
