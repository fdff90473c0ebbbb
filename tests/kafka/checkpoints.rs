//! What an instance keeps on disk makes it start sooner, and whatever becomes of it changes nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use kafka_message_scheduler::checkpoint::{Decoder, Encoder, Stand};

use crate::scene::{Dice, Scene, alone, payload};
use crate::stage::await_metric;
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, now_ms, poll_until};

const BALLAST: usize = 20_000;

/// A scene with an instance's directory.
struct Kept {
    scene: Scene,
    dir: TempDir,
}

impl Kept {
    fn new(name: &str, partitions: i32) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { scene: Scene::new(name, partitions), dir }
    }

    /// An instance that takes a checkpoint whenever anything has changed.
    fn settings(&self) -> Settings {
        kept_in(self.scene.settings(), &self.dir.path().join("state"))
    }

    /// Schedules that wait for longer than any test.
    fn write_ballast(&self) {
        let due_ms = now_ms() + 3_600_000;
        let ballast: Vec<_> =
            (0..BALLAST).map(|n| self.scene.schedule(&format!("ballast-{n}"), 1, due_ms)).collect();
        self.scene.client.produce(&ballast);
    }

    /// Lets an instance load the topic, with nothing on disk at first, and stops it once it has taken a checkpoint.
    fn take_one(&self) {
        let mut kms = Kms::start_ready(&self.settings());
        let partitions = f64::from(self.scene.client.partitions(&self.scene.schedules));
        let written = poll_until(PATIENCE, || {
            let written = kms.metric("kms_checkpoints_total", &[("outcome", "written")]);
            (written >= Some(partitions)).then_some(())
        });
        assert!(written.is_some(), "each partition has its checkpoint");
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
        assert!(!self.files().is_empty(), "the checkpoint is on disk");
    }

    /// The files of the checkpoints.
    fn files(&self) -> Vec<PathBuf> {
        let topic = self.dir.path().join("state").join(&self.scene.schedules);
        let partitions = fs::read_dir(topic).into_iter().flatten();
        let files = partitions.flat_map(|partition| fs::read_dir(partition.unwrap().path()).unwrap());
        let paths = files.map(|file| file.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "ckpt")).collect()
    }

    /// Writes the checkpoints anew, with another stand.
    fn change_stands(&self, change: impl Fn(Stand) -> Stand) {
        for file in self.files() {
            let bytes = fs::read(&file).unwrap();
            let mut decoder = Decoder::open(&bytes[..]).unwrap();
            let mut encoder = Encoder::new(&change(decoder.stand().clone()));
            let mut changed = Vec::new();
            while let Some(block) = decoder.next_block().unwrap() {
                for kept in block.schedules() {
                    encoder.push(&kept.unwrap());
                    while let Some(full) = encoder.take() {
                        changed.extend(full);
                    }
                }
            }
            changed.extend(encoder.finish());
            fs::write(file, changed).unwrap();
        }
    }

    /// An instance with this directory, whatever is in it, delivers.
    fn assert_it_fires(&self) {
        let mut kms = Kms::start_ready(&self.settings());
        self.scene.pass_sentinels();
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }

    /// An instance finds something wrong with what is on disk, says `why`, and loads the whole log.
    fn assert_passed_over(&self, why: &str) {
        let mut kms = Kms::start(&self.settings());
        let line = kms.await_line("passed over", PATIENCE);
        assert!(line.contains(why), "{line}");
        kms.wait_ready();
        // The one that it takes now is as good as any.
        kms.await_line("took a checkpoint", PATIENCE);
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
        let mut kms = Kms::start_ready(&self.settings());
        kms.await_line("began with a checkpoint", Duration::ZERO);
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
}

fn kept_in(settings: Settings, dir: &Path) -> Settings {
    settings
        .env("KMS_STATE__DIR", dir.to_str().unwrap())
        .env("KMS_STATE__CHECKPOINT_INTERVAL", "50ms")
        .env("KMS_STATE__CHECKPOINT_AFTER", "1")
}

#[test]
fn an_instance_begins_with_what_it_kept_and_reads_only_what_came_after() {
    let kept = Kept::new("checkpoint", 2);
    let scene = &kept.scene;
    kept.write_ballast();
    kept.take_one();
    let due_ms = now_ms() + 1_000;
    let mut changes: Vec<_> = (0..100).map(|n| scene.schedule(&format!("ballast-{n}"), 2, due_ms)).collect();
    changes.extend((100..200).map(|n| scene.cancel(&format!("ballast-{n}"))));
    changes.extend((0..100).map(|n| scene.schedule(&format!("new-{n}"), 1, due_ms)));
    scene.client.produce(&changes);

    let mut kms = Kms::start_ready(&kept.settings());
    let began = || kms.log_lines().iter().filter(|line| line.contains("began with a checkpoint")).count();
    let both = poll_until(PATIENCE, || (began() == 2).then_some(()));
    assert!(both.is_some(), "{} began with a checkpoint", began());
    scene.await_settled(due_ms);
    assert_eq!(
        kms.metric("schedules_repository_size", &[("counter_type", "total")]),
        Some((BALLAST - 200) as f64)
    );
    assert_eq!(kms.metric("kms_checkpoints_total", &[("outcome", "restored")]), Some(2.0));
    // Had it read the whole log, there would be as many as there were schedules.
    let updates = kms.metric("event_subscriber_total", &[("message_type", "update")]).unwrap();
    assert!(updates <= 300.0, "{updates} records read");
    assert!(kms.metric("kms_checkpoint_age_seconds", &[]).is_some_and(|age| age < 600.0));
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.verdict(due_ms).assert_clean();
}

/// Whatever it was doing, writing a checkpoint most of the time.
#[test]
fn killed_again_and_again_it_begins_with_something_right_each_time() {
    const KILLS: usize = 15;
    let _turn = alone();
    let kept = Kept::new("checkpoint-kills", 3);
    kept.write_ballast();
    let traffic = kept.scene.traffic();
    let mut dice = Dice::new(7);
    let mut restored = 0;
    for _ in 0..KILLS {
        let mut kms = Kms::start_ready(&kept.settings());
        thread::sleep(Duration::from_millis(dice.roll(0..1_200) as u64));
        kms.kill9();
        restored += kms.log_lines().iter().filter(|line| line.contains("began with a checkpoint")).count();
    }
    traffic.stop();
    assert!(restored > KILLS, "{restored} shards of {} began with a checkpoint", 3 * KILLS);
    let mut last = Kms::start_ready(&kept.settings());
    kept.scene.await_settled(now_ms());
    kept.scene.pass_sentinels();
    assert_eq!(last.sigterm_and_wait().code(), Some(0));
    kept.scene.verdict(now_ms()).assert_clean();
}

#[test]
fn a_damaged_one_costs_time_and_nothing_else() {
    let kept = Kept::new("checkpoint-damaged", 1);
    kept.write_ballast();
    kept.take_one();
    for file in kept.files() {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    kept.assert_passed_over("it is damaged");
    kept.assert_it_fires();
}

#[test]
fn one_of_a_topic_that_was_made_anew_is_passed_over() {
    let kept = Kept::new("checkpoint-recreated", 1);
    kept.write_ballast();
    kept.take_one();
    kept.scene.client.delete_topic(&kept.scene.schedules);
    kept.scene.client.create_schedule_topic(&kept.scene.schedules, 1);
    // Longer than the old one, so that no offset is out of range.
    kept.write_ballast();
    kept.write_ballast();
    kept.assert_passed_over("the topic was deleted and created again");
}

/// Of a schedule that was fired meanwhile nothing is left in the log: only the checkpoint's age tells.
#[test]
fn one_that_is_older_than_tombstones_are_kept_is_passed_over() {
    const RETENTION_MS: i64 = 5_000;
    let kept = Kept::new("checkpoint-old", 1);
    let scene = &kept.scene;
    scene.client.change_configs(&scene.schedules, &[("delete.retention.ms", &RETENTION_MS.to_string())]);
    let due_ms = now_ms() + 12_000;
    scene.client.produce(&[scene.schedule("once", 1, due_ms)]);
    kept.take_one();
    assert!(now_ms() < due_ms, "the checkpoint has it pending");
    let mut other = Kms::start_ready(&scene.settings());
    scene.await_payload(&payload("once", 1));
    scene.await_settled(i64::MAX);
    assert_eq!(other.sigterm_and_wait().code(), Some(0));
    scene.keep();
    // The first marks the tombstones, the second takes them away.
    for _ in 0..2 {
        scene.compact();
        thread::sleep(Duration::from_millis(RETENTION_MS as u64 + 500));
    }
    kept.assert_passed_over("delete.retention.ms");
    kept.assert_it_fires();
    assert_eq!(scene.count_of(&payload("once", 1)), 1);
}

/// What the brokers are asked is whether there was such an epoch, and where it ended: so a log that was cut and grew again, past
/// the checkpoint's offset, is not taken for the same.
#[test]
fn one_of_another_leader_epoch_is_passed_over() {
    let kept = Kept::new("checkpoint-epoch", 1);
    kept.write_ballast();
    kept.take_one();
    kept.change_stands(|stand| {
        assert_eq!(stand.leader_epoch, Some(0), "brokers tell");
        Stand { leader_epoch: Some(7), ..stand }
    });
    let mut kms = Kms::start(&kept.settings());
    let line = kms.await_line("loading anew", PATIENCE);
    assert!(line.contains("the log no longer holds the position"), "{line}");
    await_metric(&kms, "kms_schedules_pending", &[], BALLAST as f64);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    kept.assert_it_fires();
}

#[test]
fn one_whose_records_were_read_another_way_is_passed_over() {
    let kept = Kept::new("checkpoint-format", 1);
    kept.write_ballast();
    {
        // Whoever lists the topic as Avro by mistake rejects all of it.
        let wrong = kept.settings().json_topics("").avro_topics(&kept.scene.schedules);
        let mut kms = Kms::start_ready(&wrong);
        kms.await_line("took a checkpoint", PATIENCE);
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
    let mut kms = Kms::start(&kept.settings());
    let line = kms.await_line("passed over", PATIENCE);
    assert!(line.contains("records were read another way"), "{line}");
    await_metric(&kms, "kms_schedules_pending", &[], BALLAST as f64);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

/// What was purged stays so, although the log has not lost the checkpoint's offset.
#[test]
fn one_whose_records_were_deleted_from_the_log_is_passed_over() {
    let kept = Kept::new("checkpoint-purged", 1);
    let Scene { client, schedules, .. } = &kept.scene;
    kept.write_ballast();
    kept.take_one();
    client.allow_deleting_records(schedules);
    client.delete_records(schedules, 0, client.watermarks(schedules, 0).stable);
    let kms = Kms::start(&kept.settings());
    let line = kms.await_line("passed over", PATIENCE);
    assert!(line.contains("records were deleted from the log"), "{line}");
    await_metric(&kms, "kms_schedules_pending", &[], 0.0);
}

/// Tombstones that were cleaned while they were kept for a shorter time go when that is over, whatever is set since.
#[test]
fn one_that_is_older_than_tombstones_were_kept_then_is_passed_over() {
    let kept = Kept::new("checkpoint-raised", 1);
    kept.write_ballast();
    kept.take_one();
    kept.change_stands(|stand| Stand { tombstone_retention_ms: 1_000, ..stand });
    thread::sleep(Duration::from_millis(1_100));
    kept.assert_passed_over("and the topic keeps tombstones for 1 s");
}

#[test]
fn one_that_lies_before_the_beginning_of_the_log_is_passed_over() {
    let kept = Kept::new("checkpoint-cut", 1);
    let Scene { client, schedules, .. } = &kept.scene;
    kept.write_ballast();
    kept.take_one();
    client.allow_deleting_records(schedules);
    kept.write_ballast();
    client.delete_records(schedules, 0, client.watermarks(schedules, 0).stable);
    let mut kms = Kms::start(&kept.settings());
    kms.await_line("the log no longer holds the position", PATIENCE);
    // The log says that there is nothing.
    await_metric(&kms, "kms_schedules_pending", &[], 0.0);
    kept.scene.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

#[test]
fn a_directory_belongs_to_one_instance() {
    let kept = Kept::new("checkpoint-locked", 1);
    let _first = Kms::start_ready(&kept.settings());
    let mut second = Kms::start(&kept.settings());
    let status = second.wait(PATIENCE).expect("it ends by itself");
    assert_ne!(status.code(), Some(0));
    let said = poll_until(PATIENCE, || {
        let said = second.log_lines().join("\n");
        said.contains("is used by another process: give each instance a directory of its own").then_some(said)
    });
    assert!(said.is_some(), "it says which directory, and what to do: {:?}", second.log_lines());
}

#[test]
fn a_directory_that_goes_while_it_is_used_hurts_nobody() {
    let kept = Kept::new("checkpoint-gone", 1);
    let scene = &kept.scene;
    kept.write_ballast();
    let mut kms = Kms::start_ready(&kept.settings());
    kms.await_line("took a checkpoint", PATIENCE);
    fs::remove_dir_all(kept.dir.path().join("state")).unwrap();
    for _ in 0..3 {
        scene.pass_sentinels();
    }
    assert!(kms.is_ready());
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.verdict(now_ms()).assert_clean();
    kept.assert_it_fires();
}
