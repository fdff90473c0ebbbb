//! A log that is no longer the one that was loaded.

use std::collections::HashSet;

use crate::scene::{Dice, Scene, alone, payload, sleep_until};
use crate::support::client::{Isolation, Seen};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms};

const KEYS: usize = 20;

#[test]
fn a_topic_made_anew_is_loaded_anew_and_nothing_of_the_old_one_fires() {
    make_anew("recreated", 0, |_| {}, |_| {});
}

/// The new log is longer than what was read of the old one: no position is out of range.
#[test]
fn a_topic_made_anew_unseen_is_loaded_anew_too() {
    make_anew("recreated-unseen", 500, Kms::sigstop, Kms::sigcont);
}

/// Deletes a topic and creates it again, between `before` and `after`, with `more` records than the test needs.
fn make_anew(name: &str, more: usize, before: impl Fn(&mut Kms), after: impl Fn(&mut Kms)) {
    let scene = Scene::new(name, 2);
    // Nobody is to notice by the silence of a frozen instance.
    let settings = scene.settings().env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=20000");
    let mut kms = Kms::start_ready(&settings);
    let due_ms = now_ms() + 5_000;
    let schedules = |name: &'static str, version, due_ms, count: usize| {
        let scene = &scene;
        (0..count).map(move |n| scene.schedule(&format!("{name}-{n}"), version, due_ms))
    };
    let old = schedules("gone", 1, due_ms, KEYS).chain(schedules("again", 1, due_ms, KEYS));
    scene.client.produce(&old.collect::<Vec<_>>());
    scene.pass_sentinels();

    before(&mut kms);
    scene.client.delete_topic(&scene.schedules);
    scene.client.create_schedule_topic(&scene.schedules, 2);
    let new = schedules("again", 2, due_ms, KEYS).chain(schedules("new", 1, due_ms, KEYS + more));
    scene.client.produce(&new.collect::<Vec<_>>());
    after(&mut kms);

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
fn a_topic_made_anew_in_the_middle_of_firing_leaves_nothing_of_the_old_one() {
    const SCHEDULES: usize = 20_000;
    const WINDOW_MS: i64 = 6_000;
    let _turn = alone();
    let scene = Scene::new("recreated-busy", 6);
    let settings = scene.settings();
    let mut instances = [Kms::start(&settings), Kms::start(&settings)];
    instances.iter_mut().for_each(Kms::wait_ready);
    let mut dice = Dice::new(1);
    let mut wave = |name: &str| -> i64 {
        let start_ms = now_ms() + 1_500;
        let due_ms: Vec<i64> = (0..SCHEDULES).map(|_| start_ms + dice.roll(0..WINDOW_MS)).collect();
        let schedule = |(n, due_ms)| scene.schedule(&format!("{name}-{n}"), 1, due_ms);
        scene.client.produce(&due_ms.into_iter().enumerate().map(schedule).collect::<Vec<_>>());
        start_ms
    };
    sleep_until(wave("old") + WINDOW_MS / 2);
    scene.client.delete_topic(&scene.schedules);
    scene.client.create_schedule_topic(&scene.schedules, 6);
    let created_ms = now_ms();
    wave("new");
    scene.await_settled(i64::MAX);
    for kms in &mut instances {
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }

    let is_old = |seen: &Seen| seen.key_text().starts_with("old-");
    let mut old = scene.client.read_topic(&scene.destination, Isolation::ReadCommitted);
    old.retain(is_old);
    let once: HashSet<_> = old.iter().map(|seen| &seen.key).collect();
    assert_eq!(once.len(), old.len(), "something of the old log came twice");
    assert!((1..SCHEDULES).contains(&old.len()), "{} of {SCHEDULES} came before it was deleted", old.len());
    let late: Vec<_> = old.iter().filter(|seen| seen.timestamp_ms > created_ms).collect();
    assert!(late.is_empty(), "fired although their log was gone: {late:#?}");
    let mut history = scene.history(i64::MAX);
    history.messages.retain(|message| !message.key.starts_with(b"old-"));
    let verdict = history.judge();
    verdict.assert_clean();
    assert_eq!(verdict.right, SCHEDULES);
    println!("{} of the old log before it was deleted, {} of the new one", old.len(), verdict.right);
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
