//! `POST /api/cancel`: many schedules at once. What was cancelled is held against the log.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::api::{ask, command, get, ids, walk};
use crate::scene::{Scene, payload};
use crate::support::client::{NewRecord, Seen};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms, poll_until};

const HOUR_MS: i64 = 3_600_000;

/// Starts a job and waits for its end.
fn run(api: SocketAddr, request: &Value) -> Value {
    let (status, job) = ask(api, "POST", "/api/cancel", Some(request));
    assert_eq!(status, 202, "{job}");
    let path = format!("/api/cancel/{}", job["job"].as_str().unwrap());
    poll_until(PATIENCE, || Some(get(api, &path).1).filter(|job| job["state"] != "running")).expect("it ends")
}

/// The tombstones that were written on request: those of firings have headers.
fn cancels(scene: &Scene) -> Vec<Seen> {
    let is_cancel = |seen: &Seen| seen.value.is_none() && seen.headers.is_empty();
    scene.committed().into_iter().filter(is_cancel).collect()
}

#[test]
fn they_are_counted_first_and_then_cancelled() {
    const COUNT: usize = 5_000;
    let scene = Scene::new("many-prefix", 4);
    let due_ms = now_ms() + HOUR_MS;
    let id = |n: usize| format!("{}-{n:04}", ["red", "blue"][n % 2]);
    scene.client.produce(&(0..COUNT).map(|n| scene.schedule(&id(n), 1, due_ms)).collect::<Vec<_>>());
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();

    let counted = run(api, &json!({"prefix": "blue-"}));
    for (field, value) in [
        ("state", json!("done")),
        ("dry_run", json!(true)),
        ("looked_at", json!(COUNT)),
        ("to_look_at", json!(COUNT)),
        ("matched", json!(COUNT / 2)),
        ("cancelled", json!(0)),
        ("uncertain", json!(0)),
        ("partitions", json!({"owned": [0, 1, 2, 3], "missing": []})),
    ] {
        assert_eq!(counted[field], value, "{field}: {counted}");
    }
    assert!(cancels(&scene).is_empty(), "nothing is cancelled before that is asked for");

    let done = run(api, &json!({"prefix": "blue-", "dry_run": false}));
    assert_eq!((&done["matched"], &done["cancelled"]), (&json!(COUNT / 2), &json!(COUNT / 2)), "{done}");
    let left: BTreeSet<String> = (0..COUNT).filter(|n| n % 2 == 0).map(id).collect();
    assert_eq!(ids(&walk(api, "limit=1000")), left);
    let gone: BTreeSet<String> = cancels(&scene).iter().map(Seen::key_text).collect();
    assert_eq!((gone.len(), gone.is_disjoint(&left)), (COUNT / 2, true));

    // Of so many, only the last ones are remembered.
    let lately = get(api, "/api/history?limit=1").1["events"][0]["id"].as_str().unwrap().to_owned();
    let (status, answer) = get(api, &format!("/api/schedules/{lately}"));
    let said = answer["message"].as_str().unwrap();
    assert!(status == 404 && said.contains("cancelled at 20"), "{answer}");
    let again = run(api, &json!({"prefix": "blue-", "dry_run": false}));
    assert_eq!((&again["matched"], &again["cancelled"]), (&json!(0), &json!(0)), "{again}");
}

#[test]
fn listed_ids_get_their_tombstones_whether_they_are_known_or_not() {
    let scene = Scene::new("many-listed", 4);
    let due_ms = now_ms() + HOUR_MS;
    let id = |n: usize| format!("known-{n}");
    scene.client.produce(&(0..1_200).map(|n| scene.schedule(&id(n), 1, due_ms)).collect::<Vec<_>>());
    let kms = Kms::start_ready(&scene.settings());
    let listed: Vec<String> = (0..1_100).map(id).chain((0..100).map(|n| format!("unknown-{n}"))).collect();

    let counted = run(kms.admin(), &json!({ "ids": listed }));
    assert_eq!((&counted["matched"], &counted["looked_at"]), (&json!(1_100), &json!(1_200)), "{counted}");
    let done = run(kms.admin(), &json!({"ids": listed, "dry_run": false}));
    assert_eq!((&done["cancelled"], &done["uncertain"]), (&json!(1_100), &json!(0)), "{done}");
    let gone: BTreeSet<String> = cancels(&scene).iter().map(Seen::key_text).collect();
    assert_eq!(gone, listed.into_iter().collect());
    assert_eq!(walk(kms.admin(), "limit=1000").len(), 100);
}

/// A schedule that gets another destination while those of the first are cancelled, is not: whichever comes first.
#[test]
fn a_version_that_is_not_asked_for_is_left_alone_however_the_race_ends() {
    const COUNT: usize = 4_000;
    let scene = Scene::new("many-race", 2);
    let due_ms = now_ms() + HOUR_MS;
    let id = |n: usize| format!("id-{n:05}");
    let elsewhere = |n: usize| {
        let value = crate::scene::schedule("elsewhere", &id(n), 2, due_ms);
        NewRecord::to(&scene.schedules).key(id(n)).value(value)
    };
    scene.client.produce(&(0..COUNT).map(|n| scene.schedule(&id(n), 1, due_ms)).collect::<Vec<_>>());
    let kms = Kms::start_ready(&scene.settings());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let cancelled = std::thread::scope(|threads| {
        let (next, stop, scene, elsewhere) = (&next, &stop, &scene, &elsewhere);
        threads.spawn(move || {
            while !stop.load(Ordering::Relaxed) && next.load(Ordering::Relaxed) < COUNT {
                let from = next.fetch_add(20, Ordering::Relaxed);
                scene.client.produce(&(from..from + 20).map(elsewhere).collect::<Vec<_>>());
            }
        });
        let request = json!({"destination": scene.destination, "dry_run": false});
        let done = run(kms.admin(), &request);
        stop.store(true, Ordering::Relaxed);
        assert_eq!((&done["state"], &done["uncertain"]), (&json!("done"), &json!(0)), "{done}");
        done["cancelled"].as_u64().unwrap() as usize
    });

    let mut logs: HashMap<String, Vec<Seen>> = HashMap::new();
    for seen in scene.committed() {
        logs.entry(seen.key_text()).or_default().push(seen);
    }
    let mut removed = 0;
    for (id, log) in &logs {
        for pair in log.windows(2).filter(|pair| pair[1].value.is_none()) {
            assert_eq!(
                pair[0].value_text(),
                crate::scene::schedule(&scene.destination, id, 1, due_ms),
                "{id}"
            );
            removed += 1;
        }
    }
    assert_eq!(removed, cancelled);
    let replaced = logs.values().filter(|log| log.iter().any(|seen| seen.value_text().contains("elsewhere")));
    println!(
        "many-race: {COUNT} schedules, {} moved elsewhere meanwhile, {cancelled} cancelled",
        replaced.count()
    );
    assert!((1..COUNT).contains(&cancelled), "some are cancelled and some are not");
}

#[test]
fn what_fires_meanwhile_fires_once_and_is_not_counted() {
    const COUNT: usize = 3_000;
    let scene = Scene::new("many-firing", 2);
    let kms = Kms::start_ready(&scene.settings());
    let first_ms = now_ms() + 1_500;
    let due_ms = |n: usize| first_ms + (n as i64 % 1_000);
    let id = |n: usize| format!("id-{n:04}");
    scene.client.produce(&(0..COUNT).map(|n| scene.schedule(&id(n), 1, due_ms(n))).collect::<Vec<_>>());
    crate::scene::sleep_until(first_ms + 300);
    let done = run(kms.admin(), &json!({"prefix": "id-", "dry_run": false}));
    scene.await_settled(due_ms(999));
    drop(kms);
    let cancelled = done["cancelled"].as_u64().unwrap() as usize;
    let fired = (0..COUNT).filter(|n| scene.count_of(&payload(&id(*n), 1)) > 0).count();
    println!("many-firing: {fired} fired, {cancelled} cancelled of {} that matched", done["matched"]);
    assert_eq!(fired + cancelled, COUNT, "{done}");
    assert!(fired > 0 && cancelled > 0, "some fire before they are cancelled and some do not");
    scene.assert_everything_fired_once(&scene.settings());
}

#[test]
fn a_job_can_be_stopped_and_wrong_requests_start_none() {
    const COUNT: usize = 50_000;
    let scene = Scene::new("many-stop", 1);
    let due_ms = now_ms() + HOUR_MS;
    scene
        .client
        .produce(&(0..COUNT).map(|n| scene.schedule(&format!("id-{n}"), 1, due_ms)).collect::<Vec<_>>());
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    let (_, job) = ask(api, "POST", "/api/cancel", Some(&json!({"prefix": "", "dry_run": false})));
    let path = format!("/api/cancel/{}", job["job"].as_str().unwrap());
    poll_until(PATIENCE, || (get(api, &path).1["cancelled"].as_u64() > Some(0)).then_some(())).unwrap();
    assert_eq!(ask(api, "DELETE", &path, None).0, 200);
    let stopped = poll_until(PATIENCE, || Some(get(api, &path).1).filter(|job| job["state"] != "running"));
    let stopped = stopped.unwrap();
    let cancelled = stopped["cancelled"].as_u64().unwrap() as usize;
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!((1..COUNT).contains(&cancelled), "{stopped}");
    assert_eq!(ids(&walk(api, "limit=1000")).len(), COUNT - cancelled);

    for (body, code) in [
        (json!({}), "invalid_request"),
        (json!({"dry_run": false}), "invalid_request"),
        (json!({"ids": ["a"], "prefix": "b"}), "invalid_request"),
        (json!({"prefx": "b"}), "invalid_json"),
        (json!({"prefix": "a", "from": "tomorrow"}), "invalid_schedule"),
    ] {
        let (status, answer) = ask(api, "POST", "/api/cancel", Some(&body));
        assert_eq!(answer["code"], code, "{body}: {answer}");
        assert!([400, 422].contains(&status), "{status}: {answer}");
    }
    assert_eq!(get(api, "/api/cancel/none").1["code"], "no_such_job");
}

#[test]
fn the_command_counts_asks_and_cancels() {
    let scene = Scene::new("many-command", 2);
    let due_ms = now_ms() + HOUR_MS;
    scene
        .client
        .produce(&(0..300).map(|n| scene.schedule(&format!("cart-{n}"), 1, due_ms)).collect::<Vec<_>>());
    let kms = Kms::start_ready(&scene.settings());
    assert_eq!(
        command(&kms, "cancel --prefix cart-1 --dry-run").1,
        "111 of 300 match; nothing was cancelled\n"
    );
    let (code, _, said) = command(&kms, "cancel --prefix cart-1");
    assert!(code == Some(2) && said.contains("--yes"), "nobody can be asked: {said}");
    let (code, said, _) = command(&kms, "cancel --prefix cart-1 --yes");
    assert_eq!((code, said.as_str()), (Some(0), "cancelled 111 of 111 that matched\n"));
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "cart-2\ncart-3\nunknown\n").unwrap();
    let arguments = format!("cancel --ids-from {} --yes --json", list.path().display());
    let total: Value = serde_json::from_str(&command(&kms, &arguments).1).unwrap();
    assert_eq!((&total["matched"], &total["cancelled"]), (&json!(2), &json!(2)), "{total}");
    assert_eq!(walk(kms.admin(), "limit=1000").len(), 187);
}
