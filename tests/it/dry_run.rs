//! `rhizome run --dry-run`: everything is decided and journaled, and nothing is asked for.

use rhizome_engine::journal::Record;
use rhizome_engine::remediation::{Ending, Phase};

use crate::harness::{Setup, Site, verify};

#[test]
fn a_dry_run_decides_and_journals_and_asks_for_no_change() {
    let mut site = Site::new(Setup {
        min: 2,
        ..Setup::default()
    });
    site.start(&["--dry-run"]);
    site.wait("both additions to be decided and ended dry", |site| {
        let records = site.records_in("state/dry-run");
        let decided = records
            .iter()
            .filter(|record| matches!(record, Record::Decision { .. }));
        let dry = records.iter().filter(|record| {
            matches!(record, Record::Operation { operation }
                if operation.phase == Phase::Over { ending: Ending::Dry })
        });
        (decided.count() >= 1 && dry.count() >= 1).then_some(())
    });
    let status = site.status();
    assert!(status.dry_run);
    assert!(!status.engine.decisions.is_empty());
    let said = site.order(&["status"]);
    assert!(said.contains("dry"), "{said}");

    assert_eq!(site.terminate(), 0, "SIGTERM is a clean end");
    let ledger = site.standin.ledger();
    let changes: Vec<_> = ledger
        .mutations()
        .map(|entry| format!("{} {}", entry.method, entry.path))
        .collect();
    assert!(changes.is_empty(), "{changes:?}");
    assert!(
        ledger
            .requests
            .iter()
            .any(|entry| entry.path.starts_with("/compute/")),
        "it did look"
    );
    let (code, text) = verify(&site.path("state/dry-run"));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("whole"), "{text}");
    assert_eq!(site.records(), [], "the real run begins without its past");
}
