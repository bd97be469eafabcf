//! SIGTERM while what is under way does not end: the program ends all the same, in order and
//! in time, and the next run takes it up.

use rhizome_standin::{Api, Fault, Rule};

use crate::harness::{Setup, Site};

const SERVERS: &str = "/compute/v2.1/servers";
const LIST: &str = "/compute/v2.1/servers/detail";

#[test]
fn a_call_and_a_notification_that_hang_do_not_keep_the_program_past_its_grace() {
    let mut site = Site::settled(Setup::default());
    let create = Rule::new(SERVERS, Fault::Hang)
        .on(Api::OpenStack)
        .method("POST");
    let create = site.standin.fault(create);
    site.order(&["scale", "workers", "2", "--why", "test"]);
    site.wait("the creation to hang", |site| {
        let requests = site.standin.ledger().requests;
        let hangs = Some(Fault::Hang.name());
        requests
            .iter()
            .any(|entry| entry.fault == hangs)
            .then_some(())
    });
    site.webhook_answers(false);
    let before = site.posts().len();
    let empty = Rule::new(LIST, Fault::PartialList(0)).on(Api::OpenStack);
    let empty = site.standin.fault(empty);
    site.wait("a notification to hang", |site| {
        (site.posts().len() > before).then_some(())
    });

    // Without a deadline of its own it would wait for the call, which has a minute, and for the
    // notification, which is tried again for longer.
    assert_eq!(site.terminate(), 0);
    let log = site.log();
    assert!(log.contains("still under way"), "{log}");

    for fault in [create, empty] {
        site.standin.faults(|faults| faults.remove(fault));
    }
    site.webhook_answers(true);
    site.start(&[]);
    site.wait_settled(2);
    assert!(site.unaccounted().is_empty(), "{:?}", site.unaccounted());
}
