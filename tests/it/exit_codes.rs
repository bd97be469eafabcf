//! The table of exit codes, row by row, on the real binary.

use std::net::TcpListener;
use std::process::Stdio;

use crate::harness::{Setup, Site, said};

/// What ends a start: its name, what is spoilt before, the exit code, and what is said.
type Row = (&'static str, fn(&Site), i32, &'static str);

const STARTS: [Row; 6] = [
    (
        "an unknown key",
        |site| change(site, "cluster: test", "cluster: test\nclutser: test"),
        78,
        "`clutser`",
    ),
    (
        "a bad policy",
        |site| site.put("policies/bad.rhai", "scale_up(\"workers\").wenn(true);"),
        78,
        "bad.rhai:1:",
    ),
    (
        "no policies",
        |site| change(site, "policies: policies", "policies: none"),
        78,
        "none",
    ),
    (
        "a missing secret of the cloud",
        |site| std::fs::remove_file(site.path("openstack-password")).unwrap(),
        78,
        "openstack-password",
    ),
    (
        "a missing secret of the listener",
        |site| std::fs::remove_file(site.path("readers.token")).unwrap(),
        78,
        "readers.token",
    ),
    (
        "no folder for the state",
        |site| site.put("state", "a file"),
        1,
        "cannot be made",
    ),
];

#[test]
fn a_start_that_fails_tells_what_the_configuration_has_to_do_with_it() {
    for (what, spoil, code, told) in STARTS {
        let site = Site::new(Setup {
            tokens: true,
            ..Setup::default()
        });
        spoil(&site);
        let (ended, text) = run(&site);
        assert_eq!(ended, code, "{what}: {text}");
        assert!(text.contains(told), "{what}: {text}");
    }
}

#[test]
fn what_another_program_holds_is_no_matter_of_the_configuration() {
    let mut site = Site::new(Setup::default());
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    change(&site, "127.0.0.1:0", &address);
    let (code, text) = run(&site);
    assert_eq!(code, 1, "a port in use: {text}");
    assert!(text.contains(&address), "{text}");
    assert!(text.contains("choose another `listen.address`"), "{text}");

    change(&site, &address, "127.0.0.1:0");
    site.start(&[]);
    let (code, text) = run(&site);
    assert_eq!(code, 1, "a journal held by another run: {text}");
    assert!(text.contains("stop that one first"), "{text}");
    assert_eq!(site.terminate(), 0, "the first one is stopped in order");
}

#[test]
fn what_is_malformed_is_told_apart_from_what_is_not_granted() {
    let mut site = Site::new(Setup::default());
    site.start(&[]);
    let why = ["--why", "test"];
    for (arguments, code) in [
        (vec!["cancel", "7"], 2),
        (vec!["maintenance", "w", "--for", "soon"], 2),
        (vec!["pause", "no-such-pool"], 2),
        (vec!["scale", "workers", "many"], 2),
        (vec!["scale", "workers", "2", "--shift"], 2),
        (vec!["replace", "no-such-node"], 1),
    ] {
        let arguments = [arguments.as_slice(), &why].concat();
        let (ended, text) = said(&site.rhizome(&arguments));
        assert_eq!(ended, code, "{arguments:?}: {text}");
    }
    for (arguments, code) in [
        (vec!["why", "--pool", "workers", "--since", "then"], 2),
        (vec!["why", "nobody"], 1),
        (vec!["status"], 0),
    ] {
        let (ended, text) = said(&site.rhizome(&arguments));
        assert_eq!(ended, code, "{arguments:?}: {text}");
    }
}

/// `rhizome run` on the site's files, until it ends by itself.
fn run(site: &Site) -> (i32, String) {
    let config = site.path("rhizome.yaml");
    let mut command = site.command(&["run", "--config", config.to_str().unwrap()], "");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    site.wait("the start to fail", |_| child.try_wait().unwrap());
    said(&child.wait_with_output().unwrap())
}

fn change(site: &Site, from: &str, to: &str) {
    let config = std::fs::read_to_string(site.path("rhizome.yaml")).unwrap();
    assert!(config.contains(from), "{from}: {config}");
    site.put("rhizome.yaml", &config.replace(from, to));
}
