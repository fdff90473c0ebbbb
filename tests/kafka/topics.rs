//! A log that is no longer the one that was loaded.

use crate::scene::{Scene, payload};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms};

const KEYS: usize = 20;

#[test]
fn a_topic_made_anew_is_loaded_anew_and_nothing_of_the_old_one_fires() {
    let scene = Scene::new("recreated", 2);
    let settings = scene.settings();
    let mut kms = Kms::start_ready(&settings);
    let old_due_ms = now_ms() + 4_000;
    let schedules = |name: &'static str, version, due_ms| {
        let scene = &scene;
        (0..KEYS).map(move |n| scene.schedule(&format!("{name}-{n}"), version, due_ms))
    };
    scene.client.produce(
        &schedules("gone", 1, old_due_ms).chain(schedules("again", 1, old_due_ms)).collect::<Vec<_>>(),
    );
    scene.pass_sentinels();

    scene.client.delete_topic(&scene.schedules);
    scene.client.create_schedule_topic(&scene.schedules, 2);
    scene.client.produce(
        &schedules("again", 2, old_due_ms).chain(schedules("new", 1, old_due_ms)).collect::<Vec<_>>(),
    );

    kms.await_line("loading anew", PATIENCE);

    scene.await_settled(i64::MAX);
    scene.pass_sentinels();
    for n in 0..KEYS {
        assert_eq!(scene.count_of(&payload(&format!("gone-{n}"), 1)), 0, "it is in no log");
        assert_eq!(scene.count_of(&payload(&format!("again-{n}"), 1)), 0, "the new log says otherwise");
        assert_eq!(scene.count_of(&payload(&format!("again-{n}"), 2)), 1);
        assert_eq!(scene.count_of(&payload(&format!("new-{n}"), 1)), 1);
    }
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

#[test]
fn records_deleted_before_they_were_read_do_not_count() {
    let scene = Scene::new("deleted-records", 1);
    let settings = scene.settings().env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=20000");
    // The broker refuses to delete records of a topic that is only compacted.
    scene
        .client
        .set_configs(&scene.schedules, &[("cleanup.policy".to_owned(), "compact,delete".to_owned())].into());
    let mut kms = Kms::start_ready(&settings);
    let due_ms = now_ms() + 4_000;
    let produce = |name: &str, due_ms| {
        let records: Vec<_> = (0..KEYS).map(|n| scene.schedule(&format!("{name}-{n}"), 1, due_ms)).collect();
        scene.client.produce(&records)
    };
    produce("loaded", due_ms);
    scene.pass_sentinels();
    // The reader is held up while the log is cut off above its position.
    kms.sigstop();
    // What it had already asked for still reaches it.
    produce("asked-for", now_ms());
    produce("unread", due_ms);
    let kept = produce("kept", due_ms);
    scene.client.delete_records(&scene.schedules, 0, kept[0].offset);
    kms.sigcont();

    kms.await_line("loading anew", PATIENCE);

    scene.await_settled(i64::MAX);
    scene.pass_sentinels();
    for n in 0..KEYS {
        assert_eq!(scene.count_of(&payload(&format!("loaded-{n}"), 1)), 0, "it is not in the log any more");
        assert_eq!(scene.count_of(&payload(&format!("unread-{n}"), 1)), 0, "it was never read");
        assert_eq!(scene.count_of(&payload(&format!("kept-{n}"), 1)), 1);
    }
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}
