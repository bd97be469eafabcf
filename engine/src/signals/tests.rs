//! Pods that wait, and what is on its way to them.

use super::*;
use crate::event::PodView;
use crate::event::{Input, Observation, Wish};
use crate::lab::{Lab, Plan, on_engine_stack, pool};
use crate::time::Timestamp;

fn pod(cpu_millis: u64) -> PodView {
    PodView {
        name: "default/waiting".to_owned(),
        since: Timestamp(0),
        requests: Requests {
            cpu_millis,
            memory_bytes: 1 << 20,
            pods: 1,
        },
        node_selector: BTreeMap::new(),
    }
}

#[test]
fn pods_that_fit_on_nodes_on_their_way_do_not_wait_for_more() {
    let capacity = |cpu_millis, pods| Requests {
        cpu_millis,
        memory_bytes: 1 << 30,
        pods,
    };
    // Rows: what the pods ask for, what a node gives, nodes on their way, pods left over.
    let rows: [(&[u64], Requests, u32, usize); 7] = [
        (&[500, 500], capacity(1000, 110), 0, 2),
        (&[500, 500], capacity(1000, 110), 1, 0),
        (&[500, 500, 500], capacity(1000, 110), 1, 1),
        (&[500, 500, 500], capacity(1000, 110), 2, 0),
        (&[100, 100, 100], capacity(1000, 2), 1, 1),
        (&[100, 100, 100], capacity(1000, 0), 1, 0),
        (&[2000], capacity(1000, 110), 3, 1),
    ];
    for (asked, capacity, nodes, left) in rows {
        let pods: Vec<_> = asked.iter().copied().map(pod).collect();
        assert_eq!(left_over(pods.iter(), capacity, nodes), left, "{asked:?}");
    }
}

#[test]
fn a_node_on_its_way_is_room_until_it_serves() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"
                scale_up("workers").when(unschedulable_pods() > 0).for_at_least("30s").cooldown("1s");
            "#,
            ..Plan::default()
        });
        lab.run(60);
        let waiting = |lab: &mut Lab, count: u64| {
            let unschedulable = (0..count).map(|_| pod(1000)).collect();
            lab.step(Input::Observation(Observation::Pods {
                unschedulable,
                shapes: Vec::new(),
                nodes: BTreeMap::new(),
            }));
        };
        // One node, of four cores, is on its way for two pods.
        lab.wish(Wish::Scale {
            pool: pool(),
            size: 7,
        });
        waiting(&mut lab, 2);
        lab.run(90);
        assert_eq!(lab.decided().len(), 1, "{:?}", lab.decided());
        // For six it is not enough, and another one is.
        waiting(&mut lab, 6);
        lab.run(90);
        assert_eq!(lab.decided().len(), 2, "{:?}", lab.decided());
    });
}
