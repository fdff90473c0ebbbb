//! Records that are no schedules, copied to a topic of their own.

use crate::scene::{Scene, payload};
use crate::support::client::{Isolation, NewRecord, unique};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms};

#[test]
fn a_rejected_record_is_copied_to_the_rejections_topic_once_and_removed() {
    let scene = Scene::new("rejections", 1);
    let rejections = unique("rejected");
    scene.client.create_destination_topic(&rejections, 2);
    let settings = scene.settings().env("KMS_REJECTIONS__TOPIC", &rejections);
    // It cancels its predecessor, here as without a rejections topic.
    scene.client.produce(&[scene.schedule("broken", 1, now_ms() + 3_000)]);
    let place = scene
        .client
        .produce(&[NewRecord::to(&scene.schedules)
            .partition(0)
            .key("broken")
            .value("{ no schedule")
            .header("trace", Some(b"7"))])
        .remove(0);
    let mut kms = Kms::start_ready(&settings);
    let copies = scene.client.collect(&[&rejections], PATIENCE, |seen| !seen.is_empty());
    assert_eq!(copies[0].key_text(), "broken");
    assert_eq!(copies[0].value_text(), "{ no schedule");
    assert_eq!(copies[0].header("trace"), Some(&b"7"[..]));
    assert!(String::from_utf8_lossy(copies[0].header("kms-rejected-because").unwrap()).contains("JSON"));
    let source = format!("{}-0@{}", scene.schedules, place.offset);
    assert_eq!(copies[0].header("kms-source"), Some(source.as_bytes()));
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));

    // Neither a restart nor the predecessor's due time brings anything more.
    let mut kms = Kms::start_ready(&settings);
    scene.client.produce(&[scene.schedule("after", 1, now_ms() + 3_500)]);
    scene.await_payload(&payload("after", 1));
    assert_eq!(scene.count_of(&payload("broken", 1)), 0);
    assert_eq!(scene.client.read_topic(&rejections, Isolation::ReadCommitted).len(), 1);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}
