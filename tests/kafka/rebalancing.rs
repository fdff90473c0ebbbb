//! Partitions come and go; those that stay notice nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::scene::{Scene, await_metric, curious};
use crate::support::kms::Kms;

/// A rebalance pauses all partitions of an instance for a moment. Where reading goes on afterwards decides whether a
/// record is lost that came meanwhile.
#[test]
fn a_rebalance_hides_no_record_of_a_partition_that_stays() {
    const REBALANCES: i32 = 6;
    let scene = Scene::json(1);
    let kms = Kms::start_ready(&curious(scene.settings()));
    let done = AtomicBool::new(false);
    let written = thread::scope(|threads| {
        let writing = threads.spawn(|| {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                let id = format!("id-{written}");
                scene.put_on(scene.topic(), 0, &id, &scene.plan(&id));
                written += 1;
            }
            written
        });
        for partitions in 2..2 + REBALANCES {
            scene.client.add_partitions(&scene.topic().name, partitions);
            await_metric(&kms, "kms_partition_phase", &[("phase", "live")], f64::from(partitions));
        }
        done.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    let verdict = scene.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, written + 1 + REBALANCES as usize);
    let taken = kms.metric("kms_fences_total", &[]);
    assert_eq!(taken, Some(f64::from(1 + REBALANCES)), "no partition was loaded anew");
}
